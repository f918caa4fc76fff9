"""Hyperparameter sweeps on CIFAR-10."""

from src.cpu.threads import limit_spinning

limit_spinning()  # before torch is imported, which starts the threads

"""Benchmarks of the training engine against conventional PyTorch training.

Each module that is a command is run as `python -m benchmarks.<name>`:

- `cpu`, `gpu`: speed, start-up and memory; `cost`: how cost grows, as a picture
- `kernels`: the kernels of src/cpu/ against PyTorch's, layer by layer
- `accuracy`: the effect of reduced precision on accuracy
- `gpu_check`: whether everything works on a GPU, in ten minutes
- `commands`: seconds of submit, status and aggregate over thousands of runs
- `pruning`, `selection`: error rates of --prune and of confirm, by simulation
- `reproduce`: the recipes of the reproduced systems against the published numbers

Measurements of speed and accuracy go to results/<kind>-<machine>-<date>.json, with a Markdown table
beside it.

All arms train the same model with the same batch size and optimizer settings on the same images, a
synthetic data set of CIFAR-10's size:

- `conventional.py`: a DataLoader with worker processes, per-image torchvision transforms, eager
  float32, loss and accuracy read after every batch
- `lightning_arm.py`: the same loader under Lightning's Trainer with mixed precision
- `ours.py`: the engine, alone or with several slots

Arms are measured in turn, several times, and the median is reported, so that a slow phase of the
machine affects all of them. LOG.md records the experiments.
"""

import os

os.environ["WANDB_MODE"] = "disabled"  # no tracking process during measurements

"""The engine measured side by side with the conventional way of training.

`python -m benchmarks.cpu` and `python -m benchmarks.gpu` measure speed, start-up and memory,
`python -m benchmarks.accuracy` what a precision costs in accuracy. Each writes
results/<kind>-<machine>-<date>.json, with every single measurement, and a table .md beside it.

The arms train the same model with the same batch and optimizer settings on the same images, a
stand-in of CIFAR-10's size:

- `conventional.py`: a DataLoader with worker processes, per-image torchvision transforms, eager
  float32, loss and accuracy read after every batch
- `lightning_arm.py`: the same loader under Lightning's Trainer with mixed precision
- `ours.py`: the engine, alone or with several slots

Arms are measured in turn, several times, and the median counts: a machine that slows down for a
while slows all of them. What was tried, and what came of it, is in LOG.md.
"""

import os

os.environ["WANDB_MODE"] = "disabled"  # nothing else is at work beside what is measured

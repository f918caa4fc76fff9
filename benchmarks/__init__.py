"""Benchmarks of the training engine against conventional PyTorch training.

`python -m benchmarks.cpu` and `python -m benchmarks.gpu` measure speed, start-up and memory,
`python -m benchmarks.accuracy` the effect of reduced precision on accuracy. Each writes
results/<kind>-<machine>-<date>.json with all measurements, and a Markdown table beside it.

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

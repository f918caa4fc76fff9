"""The learning rate as a pure function of the epoch, or of the step for onecycle."""

import math

from src.config import RunConfig


def learning_rate(config: RunConfig, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step (from 0) in an epoch (from 0).

    exponential, step and cosine are the closed forms of torch.optim.lr_scheduler's
    ExponentialLR, StepLR and CosineAnnealingLR stepped once an epoch, onecycle that of
    OneCycleLR stepped once a batch (Smith and Topin 2018, https://arxiv.org/abs/1708.07120).
    """
    base = config.learning_rate
    match config.scheduler:
        case "exponential":
            return base * config.gamma**epoch
        case "step":
            return base * config.gamma ** (epoch // config.step_size)
        case "cosine":
            share = (1 + math.cos(math.pi * epoch / config.t_max)) / 2
            return config.eta_min + (base - config.eta_min) * share
        case "onecycle":
            return _onecycle(config, epoch * steps_per_epoch + step, steps_per_epoch)
        case _:
            return base


def _onecycle(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    total = config.num_epochs * steps_per_epoch
    peak = config.learning_rate
    start = peak / config.div_factor
    end = start / config.final_div_factor
    last_up = config.pct_start * total - 1
    if step <= last_up:
        return _between(config.anneal_strategy, start, peak, step / last_up if last_up else 1)
    rest = total - 1 - last_up
    return _between(config.anneal_strategy, peak, end, (step - last_up) / rest)


def _between(shape: str, first: float, last: float, share: float) -> float:
    if shape == "linear":
        return first + (last - first) * share
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))

"""Learning-rate schedules match those of torch.optim.lr_scheduler."""

import pytest
import torch
from torch.optim import lr_scheduler

from src.config import RunConfig
from src.training.lr_schedules import learning_rate


def torch_rates(make: object, epochs: int, steps: int) -> list[float]:
    """Return the learning rates of a torch scheduler stepped `steps` times an epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.03)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        (
            {"scheduler": "exponential", "gamma": 0.95},
            lambda o: lr_scheduler.ExponentialLR(o, 0.95),
        ),
        ({"scheduler": "step", "gamma": 0.9}, lambda o: lr_scheduler.StepLR(o, 3, 0.9)),
        (
            {"scheduler": "step", "gamma": 0.5, "step_size": 7},
            lambda o: lr_scheduler.StepLR(o, 7, 0.5),
        ),
        ({"scheduler": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, 10, 0)),
        (
            {"scheduler": "cosine", "t_max": 7, "eta_min": 0.001},
            lambda o: lr_scheduler.CosineAnnealingLR(o, 7, 0.001),
        ),
        ({"scheduler": "none"}, lambda o: lr_scheduler.ConstantLR(o, 1.0, 1)),
    ],
)
def test_epoch_schedules_match_torch(settings: dict, make: object) -> None:
    config = RunConfig(learning_rate=0.03, **settings)
    actual = [learning_rate(config, epoch, step=0, steps_per_epoch=9) for epoch in range(80)]
    assert actual == pytest.approx(torch_rates(make, 80, 1), rel=1e-9, abs=1e-15)
    assert learning_rate(config, 5, 8, 9) == learning_rate(config, 5, 0, 9)


@pytest.mark.parametrize("shape", ["cos", "linear"])
@pytest.mark.parametrize("pct_start", [0.3, 5 / 24])
def test_onecycle_matches_torch(shape: str, pct_start: float) -> None:
    config = RunConfig(
        scheduler="onecycle",
        learning_rate=0.03,
        num_epochs=24,
        pct_start=pct_start,
        div_factor=100,
        final_div_factor=1,
        anneal_strategy=shape,
    )
    actual = [learning_rate(config, e, s, 9) for e in range(24) for s in range(9)]

    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.OneCycleLR:
        return lr_scheduler.OneCycleLR(
            optimizer,
            0.03,
            epochs=24,
            steps_per_epoch=9,
            pct_start=pct_start,
            div_factor=100,
            final_div_factor=1,
            anneal_strategy=shape,  # type: ignore[arg-type]
            cycle_momentum=False,
        )

    expected: list[float] = []
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.03)
    scheduler = make(optimizer)
    for step in range(24 * 9):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 24 * 9 - 1:
            scheduler.step()
    assert actual == pytest.approx(expected, rel=1e-9)

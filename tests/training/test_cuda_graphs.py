"""Captured and replayed training steps, tested on the CPU with emulated CUDA graphs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from src.config import RunConfig
from src.cpu import fused_norm
from src.data import color_jitter
from src.data.device_dataset import DeviceDataset
from src.training import trainer as trainer_module
from src.training.cuda_graphs import GraphRunner
from src.training.trainer import Trainer
from tests.fake_cuda import RecordedGraph


class EmulatedGraphRunner(GraphRunner):
    def __init__(self, device: torch.device, **settings: Any) -> None:
        super().__init__(device, **settings)
        self._graphs_wanted = True

    def _captured(self, step: Callable[[int], None], size: int) -> Any:
        graph = RecordedGraph()
        with graph:
            step(size)
        return graph


def trained(config: RunConfig, data: DeviceDataset) -> Trainer:
    trainer = Trainer(config, data).start()
    while trainer.advance():
        pass
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {"scheduler": "onecycle"},
        {"model_type": "cnn", "max_images": 30, "dropout": 0.3},
        {"model_type": "resnet", "max_images": 60, "scheduler": "step", "step_size": 1},
        {"optimizer": "sgd", "nesterov": True, "data_augmentation": False},
        {"ema": 0.9, "label_smoothing": 0.1, "vertical_flip": 0.5, "cutout": 8},
        {"hue": 0.5, "brightness": 0.5},
    ],
)
def test_replayed_steps_train_bitwise_as_eager_steps(
    config: RunConfig,
    small_data: DeviceDataset,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict,
) -> None:
    """Epoch, batch, learning rate and dropout mask may change between replays."""
    run = replace(config, data_augmentation=True, num_epochs=3, batch_size=10, max_images=75)
    run = replace(run, **settings)
    # as on a GPU
    monkeypatch.setattr(color_jitter, "_shift_hue_of_due", color_jitter._shift_hue_of_all)
    monkeypatch.setattr(fused_norm, "is_available", lambda: False)
    plain = trained(run, small_data)
    monkeypatch.setattr(trainer_module, "GraphRunner", EmulatedGraphRunner)
    replayed = trained(run, small_data)
    graphs: Any = replayed.learner.graph_runner._graphs
    assert graphs["train", 10].replays > 2
    assert {name for name, _ in graphs} >= {"train", "validate"}
    assert plain.state.rows != []
    for row, replayed_row in zip(plain.state.rows, replayed.state.rows, strict=True):
        assert {**row, "seconds": 0} == {**replayed_row, "seconds": 0}
    assert plain.trained
    assert replayed.trained
    for name, tensor in plain.trained.weights["terminal"].items():
        assert torch.equal(tensor, replayed.trained.weights["terminal"][name])


def test_emulated_graph_detects_python_values_and_device_reads() -> None:
    """The emulation detects Python values fixed at capture, and reads from the device."""
    total, calls = torch.zeros(()), iter(range(100))
    graph_runner = EmulatedGraphRunner(torch.device("cpu"))

    def count(size: int) -> None:
        total.add_(next(calls))

    def read(size: int) -> None:
        total.item()

    for _ in range(6):
        graph_runner.run_step("count", count, 1)
    assert total.item() == 0 + 1 + 2 + 2 + 2 + 2
    graph_runner.run_step("read", read, 1)
    graph_runner.run_step("read", read, 1)
    with pytest.raises(AssertionError, match="waits for the device"):
        graph_runner.run_step("read", read, 1)

"""Load the data of many runs once, and check that every run can work with it."""

from collections.abc import Callable, Iterable, Sequence

import torch

from src import data, models
from src.config import MODEL_OPTIONS, RunConfig
from src.data.device_dataset import DeviceDataset
from src.data.split import check_split
from src.training import initial_weights
from src.training.device import pick_device
from src.training.model_self_test import resume_problems
from src.training.precision import check_precision

DataOf = Callable[[RunConfig], DeviceDataset]

_MODEL_FIELDS = ("model_type", "model_option", *MODEL_OPTIONS, "weights", "parent_weights")


def load_data(
    configs: Iterable[RunConfig],
    datasets: data.LoadedData,
    note: Callable[[str], object] = lambda line: None,
) -> DataOf:
    """The data set of each config on its device, loaded once for all that share it.

    datasets: those already loaded; new ones are added. note: receives a line about each
    architecture whose runs would not resume exactly. Raises UserError if the model, its options,
    the initial weights or the split of a config cannot work.
    """
    noted: set[str] = set()
    on_device: dict[tuple[data.DataKey, torch.device], DeviceDataset] = {}
    checked: set[tuple[object, ...]] = set()
    for config in configs:
        key, device = config.data_key, pick_device(config.device)
        models.check(config)
        initial_weights.check_initial_weights(config)
        if key not in datasets:
            datasets[key] = data.load(*key)
        check_split(datasets[key], config)
        if (model := (key, *(getattr(config, name) for name in _MODEL_FIELDS))) not in checked:
            initial_weights.check_model(config, datasets[key].spec)
            checked.add(model)
        check_precision(config, device)
        if reasons := resume_problems(config, datasets[key].spec):
            noted.add(_warning(config, reasons))
        if (key, device) not in on_device:
            on_device[key, device] = DeviceDataset.put(datasets[key], device)
    for line in sorted(noted):
        note(line)
    return lambda config: on_device[config.data_key, pick_device(config.device)]


def _warning(config: RunConfig, reasons: Sequence[str]) -> str:
    return (
        f"{config.model_name}: a run that is resumed will differ from an undisturbed one, because "
        f"{', and '.join(reasons)}; draw from torch alone, and keep what changes in buffers. It "
        "trains without CUDA graphs"
    )

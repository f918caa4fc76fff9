"""Load the data of many runs once, and check that every run can work with it."""

from collections.abc import Callable, Iterable

import torch

from src import data, models
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.data.split import check_split
from src.training import initial_weights
from src.training.device import pick_device
from src.training.precision import check_precision

DataOf = Callable[[RunConfig], DeviceDataset]


def load_data(configs: Iterable[RunConfig], datasets: dict[str, data.Dataset]) -> DataOf:
    """The data set of each config on its device, loaded once for all that share it.

    datasets: those already loaded, by path; new ones are added. Raises UserError if the model
    options, the initial weights or the split of a config cannot work.
    """
    on_device: dict[tuple[str, torch.device], DeviceDataset] = {}
    for config in configs:
        path, device = config.base_dataset_path, pick_device(config.device)
        models.check_options(config.model_type, models.options_of(config))
        initial_weights.check_initial_weights(config)
        if path not in datasets:
            datasets[path] = data.load(path)
        check_split(datasets[path], config)
        check_precision(config, device)
        if (path, device) not in on_device:
            on_device[path, device] = DeviceDataset.put(datasets[path], device)
    return lambda config: on_device[config.base_dataset_path, pick_device(config.device)]

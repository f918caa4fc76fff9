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


def load_data(configs: Iterable[RunConfig], datasets: data.LoadedData) -> DataOf:
    """The data set of each config on its device, loaded once for all that share it.

    datasets: those already loaded; new ones are added. Raises UserError if the model
    options, the initial weights or the split of a config cannot work.
    """
    on_device: dict[tuple[data.DataKey, torch.device], DeviceDataset] = {}
    for config in configs:
        key, device = config.data_key, pick_device(config.device)
        models.check_options(config.model_type, models.options_of(config))
        initial_weights.check_initial_weights(config)
        if key not in datasets:
            datasets[key] = data.load(*key)
        check_split(datasets[key], config)
        check_precision(config, device)
        if (key, device) not in on_device:
            on_device[key, device] = DeviceDataset.put(datasets[key], device)
    return lambda config: on_device[config.data_key, pick_device(config.device)]

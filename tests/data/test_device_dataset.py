"""Normalisation, and batches without augmentation, against torchvision."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image

from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset, normalization_table

CONSTANTS = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "half": ([0.5] * 3, [0.5] * 3),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_batch_without_augmentation_matches_torchvision(
    small_dataset: Dataset, small_data: DeviceDataset, name: str
) -> None:
    samples = torch.tensor([5, 0, 599])
    batch, labels = small_data.train.batch(
        samples, normalization_table(name, np.empty((0, 32, 32, 3), np.uint8))
    )
    for row, sample in enumerate(samples):
        image = F.to_tensor(Image.fromarray(small_dataset.train_images[sample]))
        assert torch.equal(batch[row], F.normalize(image, *CONSTANTS[name]))
    assert labels.tolist() == small_dataset.train_labels[samples].tolist()
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_measured_normalisation_gives_mean_0_and_std_1(
    small_dataset: Dataset, small_data: DeviceDataset
) -> None:
    table = normalization_table("measured", small_dataset.train_images)
    batch, _ = small_data.train.batch(torch.arange(600), table)
    assert batch.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert batch.std(dim=(0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-4)

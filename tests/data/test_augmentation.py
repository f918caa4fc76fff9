"""Augmentation: pixels equal to torchvision's transforms, and the distribution of draws."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image
from scipy import stats
from torchvision.transforms import (
    ColorJitter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
)

from src.config import RunConfig
from src.data.augmentation import ANGLES, Augmentation, Draws, hashed
from src.data.color_jitter import JitterDraws, turned
from src.data.dataset import Dataset, packed
from src.data.device_dataset import DeviceDataset, DeviceImages, normalization_table

CPU = torch.device("cpu")
AUGMENTED = RunConfig(data_augmentation=True)
TABLE = normalization_table("imagenet", np.empty((0, 32, 32, 3), np.uint8))


def apply_torchvision(
    image: np.ndarray, draws: Draws, i: int, augmentation: Augmentation
) -> torch.Tensor:
    """Apply torchvision's transforms to one image with the given draws."""
    pil_image = Image.fromarray(image)
    if draws.flip[i]:
        pil_image = F.hflip(pil_image)
    if draws.vertical is not None and draws.vertical[i]:
        pil_image = F.vflip(pil_image)
    if augmentation.affine is not None:
        angle = augmentation.angles[int(draws.angle[i])]
        pil_image = F.rotate(pil_image, angle, F.InterpolationMode.NEAREST)
    pil_image = F.pad(pil_image, augmentation.padding)
    pil_image = F.crop(pil_image, int(draws.top[i]), int(draws.left[i]), 32, 32)
    pixels = F.to_tensor(pil_image)
    if draws.jitter:
        pixels = apply_color_jitter(pixels, draws.jitter, i)
    pixels = F.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    if draws.cut:
        top, left = (int(edge[i]) for edge in draws.cut)
        pixels = F.erase(pixels, top, left, augmentation.cutout, augmentation.cutout, 0)
    return pixels


def apply_color_jitter(pixels: torch.Tensor, draws: JitterDraws, i: int) -> torch.Tensor:
    """Apply torchvision's ColorJitter operations to an image (3, 32, 32) with given draws."""
    adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    for operation in draws.order[i].tolist():
        pixels = adjust[operation](pixels, draws.amounts[i, operation].item())
    return pixels


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rotation": 0},
        {"rotation": 0, "crop_padding": 0},
        {"flip": 0},
        {"rotation": 180, "crop_padding": 9},
        {"rotation": 90, "flip": 1, "crop_padding": 0},
        {"vertical_flip": 0.5},
        {"cutout": 8},
        {"rotation": 90, "crop_padding": 0, "vertical_flip": 0.5, "cutout": 32},
    ],
)
def test_same_draws_give_same_pixels_as_torchvision(
    small_dataset: Dataset, small_data: DeviceDataset, settings: dict
) -> None:
    augmentation = Augmentation(replace(AUGMENTED, **settings), CPU)
    samples = torch.arange(600)
    batch, labels = small_data.train.batch(samples, TABLE, augmentation, epoch=3)
    draws = augmentation.draws(3, samples)
    for i in range(600):
        expected = apply_torchvision(small_dataset.train_images[i], draws, i, augmentation)
        assert torch.equal(batch[i], expected), i
    assert torch.equal(labels, torch.from_numpy(small_dataset.train_labels))
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "settings",
    [
        {"brightness": 0.5},
        {"contrast": 2.0},
        {"saturation": 0.5},
        {"hue": 0.5},
        {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5, "cutout": 5},
    ],
)
def test_same_draws_give_same_color_jitter_as_torchvision(
    small_dataset: Dataset, small_data: DeviceDataset, settings: dict
) -> None:
    augmentation = Augmentation(replace(AUGMENTED, **settings), CPU)
    samples = torch.arange(300)
    batch, _ = small_data.train.batch(samples, TABLE, augmentation, epoch=3)
    draws = augmentation.draws(3, samples)
    for i in range(300):
        expected = apply_torchvision(small_dataset.train_images[i], draws, i, augmentation)
        torch.testing.assert_close(batch[i], expected, atol=2e-5, rtol=1e-4)


def test_hue_rotation_of_all_pixels_equals_selected_rotation(small_data: DeviceDataset) -> None:
    augmentation = Augmentation(replace(AUGMENTED, hue=0.5, contrast=0.5), CPU)
    assert augmentation.jitter
    samples = torch.arange(200)
    picked, _ = small_data.train.batch(samples, TABLE, augmentation, 1)
    augmentation.jitter.everywhere = True
    everywhere, _ = small_data.train.batch(samples, TABLE, augmentation, 1)
    assert torch.equal(picked, everywhere)


def test_hue_rotation_leaves_grey_pixels_unchanged() -> None:
    extremes = torch.tensor([[0.0] * 3, [1.0] * 3, [0.5] * 3, [1.0, 0.0, 0.0]]).view(4, 3, 1)
    shifted = turned(extremes, torch.full((4,), 1 / 3))
    assert torch.equal(shifted[:3], extremes[:3])
    torch.testing.assert_close(shifted[3].view(3), torch.tensor([0.0, 1.0, 0.0]))


def test_color_jitter_draws_have_torchvision_distribution() -> None:
    settings: dict[str, Any] = {"brightness": 0.5, "contrast": 1.5, "saturation": 0.2, "hue": 0.1}
    count = 5000
    drawn = Augmentation(replace(AUGMENTED, **settings), CPU).draws(0, torch.arange(count)).jitter
    assert drawn
    transform = ColorJitter(**settings)
    bounds = (transform.brightness, transform.contrast, transform.saturation, transform.hue)
    for column, (low, high) in enumerate(bounds):
        amounts = (drawn.amounts[:, column].numpy() - low) / (high - low)
        assert stats.kstest(amounts, "uniform").pvalue > 0.001
    orders, counts = np.unique(drawn.order.numpy(), axis=0, return_counts=True)
    assert len(orders) == 24
    assert stats.chisquare(counts).pvalue > 0.001


def test_new_operations_do_not_change_existing_draws() -> None:
    samples = torch.arange(100)
    plain = Augmentation(AUGMENTED, CPU).draws(2, samples)
    more = replace(AUGMENTED, vertical_flip=0.5, cutout=8, hue=0.5)
    extended = Augmentation(more, CPU).draws(2, samples)
    for name in ("flip", "angle", "top", "left"):
        assert torch.equal(getattr(plain, name), getattr(extended, name))


def test_rotation_by_any_angle_matches_torchvision() -> None:
    image = np.arange(1, 1025, dtype=np.float64).reshape(32, 32) / 1024 * 255
    rgb = np.stack([image, image.T, 255 - image], axis=2).astype(np.uint8)
    single_image = DeviceImages.put(packed(rgb[None]), np.zeros(1, np.int64), CPU)
    augmentation = Augmentation(AUGMENTED, CPU)
    angle = torch.arange(ANGLES)
    centred = torch.full((ANGLES,), 4)
    draws = Draws(torch.zeros(ANGLES, dtype=torch.bool), angle, centred, centred)
    sources, outside = augmentation.sources(draws)
    pixels = single_image.pixels[sources].masked_fill(outside, 0)
    for i in range(0, ANGLES, 7):
        expected = np.asarray(F.rotate(Image.fromarray(rgb), augmentation.angles[i]))
        actual = pixels[i].contiguous().view(torch.uint8).view(32, 32, 4)[..., :3].numpy()
        assert np.array_equal(actual, expected), augmentation.angles[i]


def test_geometric_draws_have_torchvision_distribution() -> None:
    count = 20_000
    augmentation = Augmentation(AUGMENTED, CPU)
    draws = augmentation.draws(0, torch.arange(count))
    torch.manual_seed(0)

    angles = np.array(augmentation.angles)[draws.angle.numpy()]
    torchvision_angles = [RandomRotation.get_params([-15.0, 15.0]) for _ in range(count)]
    assert stats.ks_2samp(angles, torchvision_angles).pvalue > 0.001
    assert abs(angles).max() < 15

    crop = RandomCrop(32, padding=4)
    padded = torch.zeros(3, 40, 40)
    tops = [crop.get_params(padded, (32, 32))[0] for _ in range(count)]
    for offsets in (draws.top, draws.left):
        counts = np.bincount(offsets.numpy(), minlength=9)
        assert stats.chi2_contingency([counts, np.bincount(tops, minlength=9)]).pvalue > 0.001

    flip = RandomHorizontalFlip()
    two_pixels = torch.tensor([[[0, 1]]])
    flips = sum(int(flip(two_pixels)[0, 0, 0]) for _ in range(count))
    table = [[int(draws.flip.sum()), count - int(draws.flip.sum())], [flips, count - flips]]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_draws_are_uncorrelated_across_operations_and_epochs() -> None:
    samples = torch.arange(20_000)
    augmentation = Augmentation(AUGMENTED, CPU)
    first, second = augmentation.draws(0, samples), augmentation.draws(1, samples)
    for a, b in [
        (first.angle, first.top),
        (first.top, first.left),
        (first.flip, first.angle),
        (first.angle, second.angle),
        (first.angle[:-1], first.angle[1:]),
    ]:
        correlation = np.corrcoef(a.double().numpy(), b.double().numpy())[0, 1]
        assert abs(correlation) < 0.03
    assert not torch.equal(
        first.angle, Augmentation(replace(AUGMENTED, seed=1), CPU).draws(0, samples).angle
    )


def test_draws_do_not_depend_on_the_batch() -> None:
    augmentation = Augmentation(AUGMENTED, CPU)
    whole = augmentation.draws(5, torch.arange(100))
    part = augmentation.draws(5, torch.tensor([71, 3]))
    assert part.angle.tolist() == [whole.angle[71], whole.angle[3]]


def test_hash_is_uniform_and_matches_golden_values() -> None:
    numbers = hashed(0, 0, 0, torch.arange(100_000))
    assert 0 <= int(numbers.min()) <= int(numbers.max()) < 2**32
    assert stats.kstest(numbers.numpy() / 2**32, "uniform").pvalue > 0.001
    assert len(numbers.unique()) > 99_990
    golden = hashed(2**40 + 1, 7, 3, torch.tensor([0, 1, 49_999])).tolist()
    assert golden == GOLDEN_HASHES


GOLDEN_HASHES = [2375917947, 3328087894, 2557313468]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_give_identical_batches(
    small_dataset: Dataset, small_data: DeviceDataset
) -> None:
    device = torch.device("cuda")
    gpu_data = DeviceDataset.put(small_dataset, device)
    samples = torch.arange(600)
    expected, _ = small_data.train.batch(samples, TABLE, Augmentation(AUGMENTED, CPU), 3)
    batch, _ = gpu_data.train.batch(
        samples.to(device), TABLE.to(device), Augmentation(AUGMENTED, device), 3
    )
    assert torch.equal(batch.cpu(), expected)

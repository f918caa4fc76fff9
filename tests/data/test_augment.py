"""Augmentation against torchvision's per-image transforms, and its draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomCrop, RandomHorizontalFlip, RandomRotation

from src.config import RunConfig
from src.data.augment import ANGLES, Augmentation, Draws, hashed
from src.data.dataset import Dataset, packed
from src.data.resident import Images, ResidentData, normalization_table

CPU = torch.device("cpu")
AUGMENTED = RunConfig(data_augmentation=True)
TABLE = normalization_table("imagenet", np.empty(0, np.uint8))


def one_by_one(image: np.ndarray, draws: Draws, i: int, augmentation: Augmentation) -> torch.Tensor:
    """What torchvision makes of an image with the same draws."""
    picture = Image.fromarray(image)
    if draws.flip[i]:
        picture = F.hflip(picture)
    if augmentation.affine is not None:
        angle = augmentation.angles[int(draws.angle[i])]
        picture = F.rotate(picture, angle, F.InterpolationMode.NEAREST)
    picture = F.pad(picture, augmentation.padding)
    picture = F.crop(picture, int(draws.top[i]), int(draws.left[i]), 32, 32)
    return F.normalize(F.to_tensor(picture), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rotation": 0},
        {"rotation": 0, "crop_padding": 0},
        {"flip": 0},
        {"rotation": 180, "crop_padding": 9},
        {"rotation": 90, "flip": 1, "crop_padding": 0},
    ],
)
def test_the_same_draws_give_torchvisions_pixels(
    small_dataset: Dataset, small_data: ResidentData, settings: dict
) -> None:
    augmentation = Augmentation(replace(AUGMENTED, **settings), CPU)
    samples = torch.arange(600)
    batch, labels = small_data.train.batch(samples, TABLE, augmentation, epoch=3)
    draws = augmentation.draws(3, samples)
    for i in range(600):
        expected = one_by_one(small_dataset.train_images[i], draws, i, augmentation)
        assert torch.equal(batch[i], expected), i
    assert torch.equal(labels, torch.from_numpy(small_dataset.train_labels))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_every_angle_gives_torchvisions_pixels() -> None:
    image = np.arange(1, 1025, dtype=np.float64).reshape(32, 32) / 1024 * 255
    rgb = np.stack([image, image.T, 255 - image], axis=2).astype(np.uint8)
    one = Images.put(packed(rgb[None]), np.zeros(1, np.int64), CPU)
    augmentation = Augmentation(AUGMENTED, CPU)
    angle = torch.arange(ANGLES)
    centred = torch.full((ANGLES,), 4)
    draws = Draws(torch.zeros(ANGLES, dtype=torch.bool), angle, centred, centred)
    sources, outside = augmentation.sources(draws)
    pixels = one.pixels[sources].masked_fill(outside, 0)
    for i in range(0, ANGLES, 7):
        expected = np.asarray(F.rotate(Image.fromarray(rgb), augmentation.angles[i]))
        got = pixels[i].contiguous().view(torch.uint8).view(32, 32, 4)[..., :3].numpy()
        assert np.array_equal(got, expected), augmentation.angles[i]


def test_draws_are_distributed_as_torchvisions() -> None:
    count = 20_000
    augmentation = Augmentation(AUGMENTED, CPU)
    draws = augmentation.draws(0, torch.arange(count))
    torch.manual_seed(0)

    angles = np.array(augmentation.angles)[draws.angle.numpy()]
    theirs = [RandomRotation.get_params([-15.0, 15.0]) for _ in range(count)]
    assert stats.ks_2samp(angles, theirs).pvalue > 0.001
    assert abs(angles).max() < 15

    crop = RandomCrop(32, padding=4)
    padded = torch.zeros(3, 40, 40)
    tops = [crop.get_params(padded, (32, 32))[0] for _ in range(count)]
    for offsets in (draws.top, draws.left):
        seen = np.bincount(offsets.numpy(), minlength=9)
        assert stats.chi2_contingency([seen, np.bincount(tops, minlength=9)]).pvalue > 0.001

    flip = RandomHorizontalFlip()
    picture = torch.tensor([[[0, 1]]])
    flips = sum(int(flip(picture)[0, 0, 0]) for _ in range(count))
    table = [[int(draws.flip.sum()), count - int(draws.flip.sum())], [flips, count - flips]]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_draws_are_independent_of_each_other_and_of_the_epoch() -> None:
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


def test_a_draw_does_not_depend_on_the_batch() -> None:
    augmentation = Augmentation(AUGMENTED, CPU)
    whole = augmentation.draws(5, torch.arange(100))
    part = augmentation.draws(5, torch.tensor([71, 3]))
    assert part.angle.tolist() == [whole.angle[71], whole.angle[3]]


def test_hash_is_uniform_and_stays_what_it_was() -> None:
    numbers = hashed(0, 0, 0, torch.arange(100_000))
    assert 0 <= int(numbers.min()) <= int(numbers.max()) < 2**32
    assert stats.kstest(numbers.numpy() / 2**32, "uniform").pvalue > 0.001
    assert len(numbers.unique()) > 99_990
    golden = hashed(2**40 + 1, 7, 3, torch.tensor([0, 1, 49_999])).tolist()
    assert golden == GOLDEN_HASHES


GOLDEN_HASHES = [2375917947, 3328087894, 2557313468]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_batch(small_dataset: Dataset, small_data: ResidentData) -> None:
    device = torch.device("cuda")
    there = ResidentData.put(small_dataset, device)
    samples = torch.arange(600)
    here, _ = small_data.train.batch(samples, TABLE, Augmentation(AUGMENTED, CPU), 3)
    batch, _ = there.train.batch(
        samples.to(device), TABLE.to(device), Augmentation(AUGMENTED, device), 3
    )
    assert torch.equal(batch.cpu(), here)

"""The reproduced systems: the recipe and the published numbers of each."""

from collections.abc import Mapping
from dataclasses import dataclass

SEARCH_TRIALS = 30

MEASURES = {
    "train_accuracy": "train",
    "best_val_accuracy": "validation",
    "test_accuracy_best_val_acc": "test",
    "val_loss": "validation loss",
}
"""Fields of a result and their names in the table; all except losses are fractions."""


@dataclass(frozen=True)
class System:
    """A recipe of run_config/ and its published numbers by result field."""

    recipe: str
    published: Mapping[str, float]
    is_slow_on_cpu: bool = True
    """Whether it takes longer than an hour on two CPU cores."""
    seeds: int = 1
    """Runs that the table asks for; --seeds overrides it."""
    takes: str = ""
    """How long it takes on two CPU cores with native bfloat16."""
    needs: str = ""
    """What it needs beside CIFAR-10."""

    @property
    def not_run(self) -> str:
        """What the table says as long as there is no result."""
        words = [f"needs {self.needs}"] if self.needs else []
        words += [f"takes {self.takes} on two CPU cores with native bfloat16"] if self.takes else []
        return f"not run: {', '.join([*words, f'`make reproduce ONLY={self.recipe}`'])}"

    def seeds_or(self, asked: int | None) -> range:
        """Return the seeds to train."""
        return range(asked or self.seeds)

    @property
    def is_search(self) -> bool:
        """Whether the recipe is a search instead of a single run."""
        return self.recipe.endswith("_search")


def _val(accuracy: float) -> dict[str, float]:
    return {"best_val_accuracy": accuracy}


def _test(accuracy: float) -> dict[str, float]:
    return {"test_accuracy_best_val_acc": accuracy}


SYSTEMS = (
    System("sweep_cnn", _test(0.8697), takes="about three hours"),
    System("sweep_resnet", _test(0.8422)),
    System("sweep_vit", _test(0.8350), takes="about two days"),
    System("best_resnet", _test(0.8422), is_slow_on_cpu=False),
    System("tinyvgg_run_1", _val(0.74), is_slow_on_cpu=False),
    System("tinyvgg_run_2", _val(0.77), is_slow_on_cpu=False),
    System("tinyvgg_run_3", {**_val(0.81), **_test(0.83)}, is_slow_on_cpu=False, seeds=3),
    System("tinyvgg_run_4", _val(0.79), is_slow_on_cpu=False),
    System("best_tinyvgg", {**_val(0.81), **_test(0.83)}, is_slow_on_cpu=False),
    System(
        "resnet9_onecycle", {"train_accuracy": 0.9801, **_test(0.9272)}, takes="about 75 minutes"
    ),
    System("cifar10net", {}, is_slow_on_cpu=False),
    System("cifar10net_7", {}, is_slow_on_cpu=False),
    System("cifar10net_optim", _test(0.739), is_slow_on_cpu=False, seeds=3),
    System("cifar10net_optim_augmented", {}, is_slow_on_cpu=False),
    System("best_cifar10net", _test(0.739), is_slow_on_cpu=False, seeds=3),
    System("cifar10net_search", {"val_loss": 0.849}, is_slow_on_cpu=False),
    System(
        "resnet18_transfer",
        _val(0.80),
        needs="ImageNet weights, which it downloads",
        takes="about an hour",
    ),
    System("vgg6", _val(0.81), takes="about two hours"),
)

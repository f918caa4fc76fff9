"""Effect of precision and Winograd on accuracy: python -m benchmarks.accuracy --seeds 3 --epochs 3

Every arm is trained with the same seeds. Finished runs are not trained again.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.record import RESULTS, Record
from src.cli.arguments import Parser, positive_float, positive_int
from src.cli.entry_point import run_main
from src.common.data_names import default_dataset_path
from src.common.errors import ExitStatus, UserError
from src.common.paths import ROOT
from src.common.signals import StopSignal
from src.config import RunConfig
from src.training.device import has_fast_bfloat16, pick_device

ARMS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32", "convolution": "direct"},
    "winograd": {
        "precision": "float32",
        "convolution": "winograd",
        "memory_format": "channels_last",
    },
    "bfloat16": {"precision": "bfloat16", "convolution": "direct"},
}
_COLUMNS = (
    "arm",
    "runs",
    "test accuracy",
    "standard deviation",
    "difference",
    "verdict",
    "training loss",
    "its standard deviation",
)
_MIN_SEEDS = 3
_NOTES = (
    "test accuracy: mean over the seeds, in percent, of the checkpoint with the best validation "
    "accuracy",
    "difference: of the mean to that of the first arm; verdict: two one-sided paired t tests; "
    "both of the seeds that are finished in both arms",
    "training loss: mean over the seeds of the last epoch's loss",
)


def main(arguments: Sequence[str]) -> ExitStatus:
    """Train missing runs and write the table."""
    parsed = _parse(arguments)
    stop = StopSignal().install()
    from src.run import RunOptions, run
    from src.training import console

    plan = {arm: _configs(arm, parsed) for arm in parsed.arms}
    outcomes = run(
        [config for configs in plan.values() for config in configs],
        runs_dir=parsed.runs,
        options=RunOptions(
            slots=parsed.slots,
            stop=stop,
            display=lambda total: console.make_display(total, parsed.quiet),
        ),
    )
    done = {outcome.config.id: outcome.result for outcome in outcomes if outcome.result}
    results = {
        arm: {config.seed: done[config.id] for config in configs if config.id in done}
        for arm, configs in plan.items()
    }
    machine_specific = ("data", "runs", "out", "quiet")  # specific to this machine
    settings = {name: value for name, value in vars(parsed).items() if name not in machine_specific}
    settings["data"] = outcomes[0].config.data_name
    record = Record(f"accuracy-{parsed.model}", pick_device("auto"), settings, parsed.out)
    _tabulate(record, results, parsed.margin)
    record.print_path()
    return ExitStatus.DONE if all(o.result for o in outcomes) else ExitStatus.SOME_RUNS_FAILED


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument(
        "-d", "--data", default=default_dataset_path(), metavar="DIR", help="data set"
    )
    parser.add_argument("--model", default="resnet", metavar="NAME", help="architecture [resnet]")
    parser.add_argument(
        "--seeds", type=positive_int, default=3, metavar="N", help="runs per arm [3]"
    )
    parser.add_argument(
        "--epochs", type=positive_int, default=3, metavar="N", help="epochs per run [3]"
    )
    parser.add_argument(
        "--margin",
        type=positive_float,
        default=0.5,
        metavar="POINTS",
        help="percentage points within which arms are to be equal [0.5]",
    )
    parser.add_argument("--batch_size", type=positive_int, default=256, metavar="N", help="[256]")
    parser.add_argument("--learning_rate", type=positive_float, default=0.001, help="[0.001]")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=None,
        metavar="ARM",
        help=f"arms to compare, from {', '.join(ARMS)} [all that are fast on this device]",
    )
    parser.add_argument(
        "--max_images", type=positive_int, default=0, metavar="N", help="images per run [all]"
    )
    parser.add_argument(
        "--slots", type=positive_int, default=1, metavar="K", help="runs at a time [1]"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "accuracy", metavar="DIR")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="folder of the table"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    parsed = parser.parse(arguments)
    device = pick_device("auto")
    is_fast = {"winograd": device.type == "cpu", "bfloat16": has_fast_bfloat16(device)}
    parsed.arms = parsed.arms or [arm for arm in ARMS if is_fast.get(arm, True)]
    for arm in parsed.arms:
        if arm not in ARMS:
            raise UserError(f"--arms {arm!r}: expected some of {', '.join(ARMS)}")
    return parsed


def _configs(arm: str, parsed: Namespace) -> list[RunConfig]:
    return [
        RunConfig(
            base_dataset_path=parsed.data,
            model_type=parsed.model,
            num_epochs=parsed.epochs,
            batch_size=parsed.batch_size,
            learning_rate=parsed.learning_rate,
            data_augmentation=True,
            max_images=parsed.max_images,
            keep_checkpoints="none",
            seed=seed,
            **ARMS[arm],
        )
        for seed in range(parsed.seeds)
    ]


def _tabulate(
    record: Record, results: Mapping[str, Mapping[int, Mapping[str, Any]]], margin: float
) -> None:
    """Add one row per arm, compared with the first arm. results: by arm and seed."""
    table = record.table("Accuracy by arithmetic", _COLUMNS, _NOTES)
    accuracies = {
        arm: {seed: 100 * result["test_accuracy_best_val_acc"] for seed, result in of_arm.items()}
        for arm, of_arm in results.items()
    }
    first = next(iter(accuracies.values()))
    for arm, by_seed in accuracies.items():
        values = list(by_seed.values())
        losses = [result["train_loss"] for result in results[arm].values()]
        in_both = [seed for seed in first if seed in by_seed]
        ours, theirs = [by_seed[seed] for seed in in_both], [first[seed] for seed in in_both]
        difference = mean(ours) - mean(theirs) if in_both else None
        row = (
            arm,
            len(values),
            *_mean_and_spread(values),
            None if difference is None or by_seed is first else round(difference, 3),
            "" if by_seed is first else verdict(theirs, ours, margin),
            *_mean_and_spread(losses),
        )
        record.add(table, row, accuracies=values, losses=losses)


def _mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation, None without enough values."""
    return (
        round(mean(values), 3) if values else None,
        round(stdev(values), 3) if len(values) > 1 else None,
    )


def verdict(first: Sequence[float], second: Sequence[float], margin: float) -> str:
    """Say whether two arms are shown to be equally accurate within `margin` percentage points.

    Two one-sided paired t tests at 5 % (Schuirmann 1987): the n-th values have the same seed.
    """
    from scipy import stats

    if len(first) != len(second) or len(first) < _MIN_SEEDS:
        return "not shown: too few runs"
    differences = [b - a for a, b in zip(first, second, strict=True)]
    below = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    equal = f"equal within {margin:g} points"
    p_value = float(max(below, above))
    return f"{equal} (p = {p_value:.2g})" if p_value < 0.05 else f"not shown to be {equal}"


if __name__ == "__main__":
    run_main(main)

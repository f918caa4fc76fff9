"""Write run folders as TensorBoard event files."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from src.common.errors import ExitStatus, UserError
from src.common.paths import shown
from src.common.progress import show_progress, silent
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY
from src.report.run_analysis.run_selection import RunSelection, SelectedRun, find_runs
from src.runs.run_folder import RunFolder, all_runs

FOLDER = "tensorboard"
_TEST = (TEST_ACCURACY, "test_loss_best_val_acc", BEST_VAL_ACCURACY)


def write_events(selection: RunSelection, out: Path, *, quiet: bool) -> ExitStatus:
    """Write <out>/tensorboard/<model>/<run>: epochs, settings and results of each run.

    selection: named runs, or all that have finished an epoch. Runs that cannot be read are named
    on stderr. Raises UserError if none is left.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UserError("TensorBoard is not installed: pip install tensorboard") from None
    runs_dir = selection.runs_dir
    if selection.names:
        runs = find_runs(selection.names, runs_dir)
    else:
        runs = list(_with_epochs(all_runs(runs_dir, selection.model or "*"), quiet))
    if not runs:
        raise UserError(f"--runs {str(runs_dir)!r}: no run has finished an epoch")
    for run in (silent if quiet else show_progress)(runs, "event files"):
        _write(run, out / FOLDER / run.config.model_name / run.folder.path.name)
    print(shown(out / FOLDER))
    return ExitStatus.DONE


def _with_epochs(folders: Iterable[RunFolder], quiet: bool) -> Iterator[SelectedRun]:
    for folder in folders:
        try:
            if folder.history():
                yield SelectedRun.at(folder.path)
        except (UserError, ValueError) as error:
            if not quiet:
                print(f"left out: {error}", file=sys.stderr)


def _write(run: SelectedRun, folder: Path) -> None:
    """Replace the event files of a run."""
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(folder) as writer:
        for row in run.folder.history():
            for name, value in _numbers(row).items():
                part, _, measure = name.partition("_")
                tag = f"{measure}/{part}" if part in ("train", "val") else name
                writer.add_scalar(tag, value, row["epoch"])
        result = _numbers(run.folder.result() or run.folder.pruned() or {})
        metrics = {name: result[name] for name in _TEST if name in result}
        if metrics:
            config = {
                name: value
                for name, value in run.config.as_dict().items()
                if isinstance(value, bool | int | float | str)
            }
            writer.add_hparams(config, metrics, run_name=".")


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value) and name != "epoch"
    }

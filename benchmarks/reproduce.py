"""Train the recipes of all reproduced systems and compare with the published numbers.

python -m benchmarks.reproduce [--only NAME ...]: recipes that need a GPU are trained if there is
one, or if --only names them. Finished runs are not trained again.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks.record import RESULTS
from benchmarks.systems import MEASURES, SEARCH_TRIALS, SYSTEMS, System
from docs.sections import replace_section
from src import models
from src.cli.arguments import Parser, positive_int
from src.cli.entry_point import run_main
from src.common import files
from src.common.data_names import SYNTHETIC, default_dataset_path
from src.common.errors import ExitStatus, UserError
from src.common.option_fields import did_you_mean
from src.common.paths import ROOT, RUNS_DIR, shown
from src.common.signals import StopSignal
from src.common.yaml_files import read_yaml
from src.config import SEARCH, RunConfig, from_mapping

RECIPES = ROOT / "run_config"
DOCUMENT = ROOT / "docs" / "reproduction.md"
FILE = "reproduction.json"
BEGIN, END = "<!-- reproduction: begin -->", "<!-- reproduction: end -->"

Row = dict[str, Any]


@dataclass(frozen=True)
class _Plan:
    """Options of the command and the stop condition."""

    parsed: Namespace
    stop: Callable[[], bool]

    def path(self, system: System) -> Path:
        return Path(self.parsed.recipes) / f"{system.recipe}.yaml"

    def configs(self, system: System) -> list[RunConfig]:
        """Return the runs of a recipe, one per seed."""
        path = self.path(system)
        settings = {**read_yaml(path), "base_dataset_path": self.parsed.data}
        config = from_mapping(settings, shown(path))
        return [replace(config, seed=seed) for seed in system.seeds_or(self.parsed.seeds)]


def main(arguments: Sequence[str]) -> ExitStatus:
    """Train the missing runs of the selected systems, and write the table of all."""
    parsed = _parse(arguments)
    plan = _Plan(parsed, StopSignal().install())
    table = {row["recipe"]: row for row in _stored_rows(parsed.out)}
    complete = True
    for system in _selected_systems(parsed.only):
        print(f"{system.recipe} ...", file=sys.stderr)
        try:
            row = _run_search(system, plan) if system.is_search else _train(system, plan)
        except UserError as error:
            print(f"error: {system.recipe}: {error}", file=sys.stderr)
            row = None
        if row:
            table[system.recipe] = row
        complete = complete and row is not None
        _write(list(table.values()), parsed.out)
    print(markdown(_in_table_order(table)))
    return ExitStatus.DONE if complete else ExitStatus.SOME_RUNS_FAILED


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="python -m benchmarks.reproduce", description=__doc__)
    parser.add_argument(
        "-d", "--data", default=default_dataset_path(), metavar="DIR", help="CIFAR-10"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="recipes [all, without a GPU only those that need none]",
    )
    parser.add_argument(
        "--seeds",
        type=positive_int,
        metavar="N",
        help="runs per recipe [3 for two of them, else 1]",
    )
    parser.add_argument("--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="run folders")
    parser.add_argument("--recipes", type=Path, default=RECIPES, metavar="DIR", help="[run_config]")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help=f"for {FILE}")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    parsed = parser.parse(arguments)
    if parsed.data == SYNTHETIC and parsed.out.resolve() == RESULTS:
        raise UserError("-d synthetic: its numbers are no reproduction; expected another --out")
    return parsed


def _selected_systems(only: Sequence[str] | None) -> list[System]:
    names = [system.recipe for system in SYSTEMS]
    for name in only or ():
        if name not in names:
            raise UserError(f"--only {name!r}: no such recipe{did_you_mean(name, names)}")
    if only:
        return [system for system in SYSTEMS if system.recipe in only]
    return [system for system in SYSTEMS if torch.cuda.is_available() or not system.is_slow_on_cpu]


def _train(system: System, plan: _Plan) -> Row | None:
    """Train a recipe and return its row; None if not all seeds could be trained."""
    from src.run import RunOptions, run
    from src.training import console

    outcomes = run(
        plan.configs(system),
        runs_dir=plan.parsed.runs,
        options=RunOptions(
            stop=plan.stop, display=lambda total: console.make_display(total, plan.parsed.quiet)
        ),
    )
    results = [outcome.result for outcome in outcomes if outcome.result]
    if len(results) < len(outcomes):
        return None
    measured = [name for name in MEASURES if name in results[0]]
    return {
        **_metadata(system, outcomes[0].config, results[0]),
        "ours": {name: [result[name] for result in results] for name in measured},
        "epochs_run": [result["epochs_run"] for result in results],
        "run_ids": [result["run_id"] for result in results],
    }


def _run_search(system: System, plan: _Plan) -> Row | None:
    """Run a search and return its row; None if no trial was completed."""
    from src.runs.run_folder import RunFolder
    from src.tune import best_trial, search_space, search_workers

    flags = {"base_dataset_path": plan.parsed.data}
    space = search_space.read(plan.path(system), flags)
    job = search_workers.SearchJob(
        space, plan.parsed.runs, SEARCH_TRIALS, "median", "disabled", plan.parsed.quiet
    )
    failure = search_workers.work(job)
    study = job.search()
    found = best_trial.best(study)
    if failure or not found:
        return None
    config = study.space.config(found["parameters"])
    result = RunFolder.of(config, plan.parsed.runs).result()
    assert result
    return {
        **_metadata(system, config, result),
        "ours": {"val_loss": [found["val_loss"]]},
        "epochs_run": [result["epochs_run"]],
        "run_ids": [result["run_id"]],
        "trials": found["trials"],
        "found": found["parameters"],
    }


def _metadata(system: System, config: RunConfig, result: dict[str, Any]) -> Row:
    return {
        "recipe": system.recipe,
        "model": config.model_type,
        "parameters": result["parameters"],
        "dataset": config.data_name,
        "num_epochs": config.num_epochs,
        "device": result["device"],
        "precision": result["precision"],
        "versions": result["versions"],
        "git_commit": result["git_commit"],
        "date": date.today().isoformat(),
    }


def _stored_rows(out: Path) -> list[Row]:
    return list((files.read_json(out / FILE) or {}).get("rows", []))


def _in_table_order(table: dict[str, Row]) -> list[Row]:
    return [table[system.recipe] for system in SYSTEMS if system.recipe in table]


def _write(rows: list[Row], out: Path) -> None:
    """Write the JSON file and, for the default folder, the table in docs/reproduction.md."""
    ordered = _in_table_order({row["recipe"]: row for row in rows})
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / FILE, {"rows": ordered})
    if out.resolve() == RESULTS:
        replace_section(DOCUMENT, BEGIN, END, markdown(ordered))


def markdown(rows: Sequence[Row]) -> str:
    """Return the Markdown table of all systems, including those not trained yet."""
    known = {row["recipe"]: row for row in rows}
    for system in SYSTEMS:
        known.setdefault(system.recipe, _not_run(system))
    head = ["recipe", "parameters", "published", "ours", "epochs", "seeds", "device"]
    lines = [head, ["---"] * len(head)]
    lines += [_cells(system, known[system.recipe]) for system in SYSTEMS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _not_run(system: System) -> Row:
    """Return the row of a recipe that was not trained yet."""
    settings = {k: v for k, v in read_yaml(RECIPES / f"{system.recipe}.yaml").items()}
    settings.pop(SEARCH, None)
    config = from_mapping(settings, system.recipe)
    with torch.device("meta"):
        model = models.create(config.model_type, **models.options_of(config))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "ours": {},
        "epochs_run": [],
        "num_epochs": config.num_epochs,
        "run_ids": [],
        "device": "",
    }


def _cells(system: System, row: Row) -> list[str]:
    published = {name: [value] for name, value in system.published.items()}
    epochs = "/".join(map(str, row["epochs_run"])) or "0"
    trials = f"{sum(row['trials'].values())} trials of " if "trials" in row else ""
    return [
        f"`{system.recipe}`",
        f"{row['parameters']:,}",
        _format_measures(published) or "no accuracy",
        _format_measures(row["ours"]) or system.not_run,
        f"{trials}{epochs} of {row['num_epochs']}",
        str(len(row["run_ids"])),
        row["device"],
    ]


def _format_measures(numbers: dict[str, list[float]]) -> str:
    return ", ".join(_format_measure(name, values) for name, values in numbers.items())


def _format_measure(name: str, values: list[float]) -> str:
    """Format the mean of a measure, with the standard deviation over several seeds."""
    scale, digits = (1, 3) if name.endswith("loss") else (100, 2)
    text = f"{MEASURES[name]} {scale * mean(values):.{digits}f}"
    return text + (f" ± {scale * stdev(values):.{digits}f}" if len(values) > 1 else "")


if __name__ == "__main__":
    run_main(main)

"""Train the recipe of every system that is carried, and put its numbers beside the published ones.

python -m benchmarks.reproduce [--only NAME ...]: what needs a GPU is trained where there is one, or
where it is asked for. Runs that are done already are not trained again.
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
from src import models
from src.cli.arguments import Parser, positive_int
from src.cli.entry_point import run_main
from src.common import files
from src.common.errors import ExitStatus, UserError
from src.common.option_fields import did_you_mean
from src.common.paths import ROOT, RUNS_DIR, shown
from src.common.signals import StopSignal
from src.config import SEARCH, SYNTHETIC, RunConfig, default_dataset_path, from_mapping, read_yaml

RECIPES = ROOT / "run_config"
DOCUMENT = ROOT / "docs" / "reproduction.md"
FILE = "reproduction.json"
BEGIN, END = "<!-- reproduction: begin -->", "<!-- reproduction: end -->"

Row = dict[str, Any]


@dataclass(frozen=True)
class _Plan:
    """Where recipes are read, runs kept and images found; how many seeds."""

    parsed: Namespace
    stop: Callable[[], bool]

    def path(self, system: System) -> Path:
        return Path(self.parsed.recipes) / f"{system.recipe}.yaml"

    def configs(self, system: System) -> list[RunConfig]:
        """The trainings of a recipe, one a seed."""
        path = self.path(system)
        settings = {**read_yaml(path), "base_dataset_path": self.parsed.data}
        config = from_mapping(settings, shown(path))
        return [replace(config, seed=seed) for seed in range(self.parsed.seeds)]


def main(arguments: Sequence[str]) -> ExitStatus:
    """Train what is missing of the systems asked for, and write the table of all."""
    parsed = _parse(arguments)
    plan = _Plan(parsed, StopSignal().install())
    table = {row["recipe"]: row for row in _known(parsed.out)}
    whole = True
    for system in _chosen(parsed.only):
        print(f"{system.recipe} ...", file=sys.stderr)
        try:
            row = _searched(system, plan) if system.is_search else _trained(system, plan)
        except UserError as error:
            print(f"error: {system.recipe}: {error}", file=sys.stderr)
            row = None
        if row:
            table[system.recipe] = row
        whole = whole and row is not None
        _write(list(table.values()), parsed.out)
    print(markdown(_in_order(table)))
    return ExitStatus.DONE if whole else ExitStatus.SOME_RUNS_FAILED


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="python -m benchmarks.reproduce", description=__doc__)
    parser.add_argument(
        "-d", "--data", default=default_dataset_path(), metavar="DIR", help="CIFAR-10"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="recipes [all that can be had]")
    parser.add_argument("--seeds", type=positive_int, default=1, metavar="N", help="runs each [1]")
    parser.add_argument("--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="run folders")
    parser.add_argument("--recipes", type=Path, default=RECIPES, metavar="DIR", help="[run_config]")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help=f"for {FILE}")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    parsed = parser.parse(arguments)
    if parsed.data == SYNTHETIC and parsed.out.resolve() == RESULTS:
        raise UserError("-d synthetic: its numbers are no reproduction; expected another --out")
    return parsed


def _chosen(only: Sequence[str] | None) -> list[System]:
    names = [system.recipe for system in SYSTEMS]
    for name in only or ():
        if name not in names:
            raise UserError(f"--only {name!r}: no such recipe{did_you_mean(name, names)}")
    if only:
        return [system for system in SYSTEMS if system.recipe in only]
    return [system for system in SYSTEMS if torch.cuda.is_available() or not system.needs_gpu]


def _trained(system: System, plan: _Plan) -> Row | None:
    """The row of a training; None where not all of its seeds could be trained."""
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
        **_about(system, outcomes[0].config, results[0]),
        "ours": {name: [result[name] for result in results] for name in measured},
        "epochs_run": [result["epochs_run"] for result in results],
        "run_ids": [result["run_id"] for result in results],
    }


def _searched(system: System, plan: _Plan) -> Row | None:
    """The row of a search; None where no trial of it came to its end."""
    from src.runs.run_folder import RunFolder
    from src.tune import best_trial, search_space, search_workers

    flags = {"base_dataset_path": plan.parsed.data}
    wanted = search_space.read(plan.path(system), flags)
    order = search_workers.SearchJob(
        wanted, plan.parsed.runs, SEARCH_TRIALS, "median", "disabled", plan.parsed.quiet
    )
    why = search_workers.work(order)
    study = order.search()
    found = best_trial.best(study)
    if why or not found:
        return None
    config = study.space.config(found["parameters"])
    result = RunFolder.of(config, plan.parsed.runs).result()
    assert result
    return {
        **_about(system, config, result),
        "ours": {"val_loss": [found["val_loss"]]},
        "epochs_run": [result["epochs_run"]],
        "run_ids": [result["run_id"]],
        "trials": found["trials"],
        "found": found["parameters"],
    }


def _about(system: System, config: RunConfig, result: dict[str, Any]) -> Row:
    return {
        "recipe": system.recipe,
        "model": config.model_type,
        "parameters": result["parameters"],
        "dataset": config.dataset,
        "num_epochs": config.num_epochs,
        "device": result["device"],
        "precision": result["precision"],
        "versions": result["versions"],
        "git_commit": result["git_commit"],
        "date": date.today().isoformat(),
    }


def _known(out: Path) -> list[Row]:
    return list((files.read_json(out / FILE) or {}).get("rows", []))


def _in_order(table: dict[str, Row]) -> list[Row]:
    return [table[system.recipe] for system in SYSTEMS if system.recipe in table]


def _write(rows: list[Row], out: Path) -> None:
    """Write the numbers, and the table of docs/reproduction.md where they are the project's own."""
    ordered = _in_order({row["recipe"]: row for row in rows})
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / FILE, {"rows": ordered})
    if out.resolve() == RESULTS:
        before, rest = DOCUMENT.read_text().split(BEGIN)
        _, after = rest.split(END)
        files.write_text(DOCUMENT, f"{before}{BEGIN}\n{markdown(ordered)}\n{END}{after}")


def markdown(rows: Sequence[Row]) -> str:
    """The table of all systems, those that were not trained yet included."""
    known = {row["recipe"]: row for row in rows}
    for system in SYSTEMS:
        known.setdefault(system.recipe, _not_run(system))
    head = ["recipe", "parameters", "published", "ours", "epochs", "seeds", "device"]
    lines = [head, ["---"] * len(head)]
    lines += [_cells(system, known[system.recipe]) for system in SYSTEMS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _not_run(system: System) -> Row:
    """The row of a recipe of run_config/ that was not trained yet."""
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
        _in_words(published) or "no accuracy",
        _in_words(row["ours"]) or "not yet run",
        f"{trials}{epochs} of {row['num_epochs']}",
        str(len(row["run_ids"])),
        row["device"],
    ]


def _in_words(numbers: dict[str, list[float]]) -> str:
    return ", ".join(_one(name, values) for name, values in numbers.items())


def _one(name: str, values: list[float]) -> str:
    """A measure's mean, and its standard deviation over several seeds."""
    scale, digits = (1, 3) if name.endswith("loss") else (100, 2)
    text = f"{MEASURES[name]} {scale * mean(values):.{digits}f}"
    return text + (f" ± {scale * stdev(values):.{digits}f}" if len(values) > 1 else "")


if __name__ == "__main__":
    run_main(main)

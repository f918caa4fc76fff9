"""python -m src.sweep confirm: train the best configurations again, with fresh seeds."""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from src.cli.arguments import Parser, non_negative_float, non_negative_int, positive_int
from src.cli.common_options import add_json_option, add_runs_option
from src.common.errors import ExitStatus, UserError
from src.common.json_text import json_text
from src.common.model_source import code_of, trust_model
from src.common.paths import RUNS_DIR, confirmation_sets_dir, shown
from src.comparison import confirmation_plan as plans
from src.comparison.configurations import Configuration, read_configurations
from src.comparison.confirmation import Confirmation, Stage
from src.comparison.confirmation_plan import ConfirmationPlan
from src.sweep import confirmation_output, sets
from src.sweep.commands import submit
from src.sweep.launch import submit_options

_SUBMIT = "--submit"
_K = 5
_SEEDS = 5


@dataclass(frozen=True)
class ConfirmOptions:
    """What the command line asks for. runs_dir: the sweep to confirm."""

    runs_dir: Path
    model: str | None
    k: int | None
    seeds: int
    final_seeds: int
    race: bool
    margin: float
    """As a share: 0.01 is one percentage point."""
    dry_run: bool
    json: bool

    @classmethod
    def parsed(cls, arguments: Namespace) -> "ConfirmOptions":
        """From the parsed command line. Raises UserError for a margin without a race."""
        if arguments.margin and not arguments.race:
            raise UserError("--margin needs --race")
        final_seeds = arguments.final_seeds
        return cls(
            runs_dir=arguments.runs,
            model=arguments.model,
            k=arguments.k,
            seeds=arguments.seeds,
            final_seeds=arguments.seeds if final_seeds is None else final_seeds,
            race=arguments.race,
            margin=arguments.margin / 100,
            dry_run=arguments.dry_run,
            json=arguments.json,
        )


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the set files of what is missing, say what it costs, and train it if asked to.

    Where the trainings are waited for, this goes on until the winners are confirmed. The exit
    status is then 1 if they cannot be: trainings are missing, or no configuration can win.
    """
    own, flags = _split(arguments)
    options = ConfirmOptions.parsed(_parser().parse(own))
    is_waited_for = flags is not None and _executor(flags) != "slurm"
    if flags and submit_options.read_flags(flags).json:
        options, flags = replace(options, json=True), [flag for flag in flags if flag != "--json"]
    status, before = ExitStatus.DONE, set[str]()
    while True:
        confirmations = _confirmations(options)
        missing = {run.id for confirmation in confirmations for run in confirmation.missing}
        if before and before <= missing:
            print(f"not confirmed: none of {len(missing)} missing runs was done", file=sys.stderr)
            status = status or ExitStatus.SOME_RUNS_FAILED
            break
        if not options.dry_run:
            _write_sets(options.runs_dir, confirmations)
        if not options.json:
            _print(options, confirmations)
        if flags is None or options.dry_run:
            break
        if not missing:
            no_winner = any(confirmation.stage == Stage.NO_WINNER for confirmation in confirmations)
            status = ExitStatus.SOME_RUNS_FAILED if no_winner else ExitStatus.DONE
            break
        status = _submit(options, flags)
        if not is_waited_for:
            break
        before = missing
    if options.json:
        states = [confirmation_output.as_json(confirmation) for confirmation in confirmations]
        print(json_text(states))
    return status


def _submit(options: ConfirmOptions, flags: Sequence[str]) -> ExitStatus:
    """Submit the set files. With --json, standard output is left to the state at the end."""
    folder = str(confirmation_sets_dir(options.runs_dir))
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        return submit.main(["--sets", folder, "--runs", str(options.runs_dir), *flags])


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """The command's own arguments, and those after --submit. None without it."""
    if _SUBMIT not in arguments:
        return arguments, None
    position = list(arguments).index(_SUBMIT)
    return arguments[:position], arguments[position + 1 :]


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep confirm",
        description="Choose the k best configurations of each architecture by validation accuracy, "
        "train them again with fresh seeds, and then the winner with seeds that had no part in "
        "choosing it. Called again, it adds only what is missing.\n\n"
        "--submit must come last: what follows it are flags of python -m src.sweep submit.",
    )
    parser.add_argument(
        "-k",
        type=positive_int,
        metavar="K",
        help=f"configurations per architecture [{_K}, or all if there are fewer]",
    )
    parser.add_argument(
        "--seeds",
        type=positive_int,
        default=_SEEDS,
        metavar="N",
        help=f"fresh seeds of each configuration [{_SEEDS}]",
    )
    parser.add_argument(
        "--final_seeds",
        type=non_negative_int,
        metavar="N",
        help="seeds of the winner alone, from which its accuracy is reported; 0 for none "
        "[as many as --seeds]",
    )
    parser.add_argument("--model", metavar="MODEL", help="only this architecture")
    add_runs_option(parser)
    parser.add_argument(
        "--race",
        action="store_true",
        help="add one seed at a time, and drop configurations once they are significantly behind",
    )
    parser.add_argument(
        "--margin",
        type=non_negative_float,
        default=0.0,
        metavar="POINTS",
        help="end a race once the rest are equal within so many percentage points [0: never]",
    )
    parser.add_argument("--dry_run", action="store_true", help="write nothing, train nothing")
    add_json_option(parser)
    parser.add_argument(
        _SUBMIT, action="store_true", help="train what is missing; flags of submit may follow"
    )
    return parser


def _confirmations(options: ConfirmOptions) -> list[Confirmation]:
    """The state of each architecture's confirmation, planned or extended as asked for."""
    configurations = read_configurations(options.runs_dir)
    by_model = _finished_by_model(configurations, options)
    for of_model in by_model.values():
        _check_data(options.runs_dir, of_model)
    planned = [_planned(options, model, of_model) for model, of_model in by_model.items()]
    return [Confirmation(plan, configurations) for plan in planned]


def _finished_by_model(
    configurations: Mapping[str, Configuration], options: ConfirmOptions
) -> dict[str, list[Configuration]]:
    """The configurations with a finished run, by architecture and data set.

    Raises UserError without any.
    """
    by_model: dict[str, list[Configuration]] = {}
    for configuration in configurations.values():
        if configuration.done() and _is_current(configuration, options.model):
            by_model.setdefault(configuration.model, []).append(configuration)
    if not options.model:
        left_out = _custom_models(configurations, by_model)
        for name in left_out:
            print(f"left out: --model {name} confirms runs of this code", file=sys.stderr)
        if not by_model:
            raise UserError(f"--runs {str(options.runs_dir)!r}: no finished run")
        return by_model
    selected = {
        name: of_model
        for name, of_model in by_model.items()
        if options.model in (name, of_model[0].config.model_type)
    }
    if not selected:
        edited = _custom_models(configurations, by_model)
        finished = ", ".join([*by_model, *edited]) or "none: no run is finished"
        if code_of(options.model) and options.model in edited:
            raise UserError(f"--model {options.model!r}: it was edited since its runs were trained")
        raise UserError(f"--model {options.model!r}: no finished run; expected one of {finished}")
    return selected


def _custom_models(
    configurations: Mapping[str, Configuration], by_model: Mapping[str, object]
) -> list[str]:
    """The architectures of own code that have a finished run, and were not selected."""
    not_selected = (
        configuration
        for configuration in configurations.values()
        if configuration.model not in by_model and configuration.done()
    )
    names = dict.fromkeys(configuration.config.model_type for configuration in not_selected)
    return [name for name in names if code_of(name)]


def _is_current(configuration: Configuration, named: str | None) -> bool:
    """Whether a configuration can be trained: its own code only as it is now, and if it is named.

    Run folders name code too, which is run only if the person of this command names it as well.
    """
    model = configuration.config.model_type
    if code_of(model) is None:
        return True
    return named == model and trust_model(named) == configuration.config.model_digest


def _check_data(runs_dir: Path, configurations: Sequence[Configuration]) -> None:
    """Raise UserError if the runs were trained on different data."""
    runs = [run for configuration in configurations for run in configuration.done()]
    digests = {str(digest) for run in runs if (digest := run.result.get("data_digest"))}
    if len(digests) > 1:
        raise UserError(
            f"--runs {str(runs_dir)!r}: its runs are on data of different content: "
            f"{', '.join(sorted(digests))}; expected runs on one"
        )


def _planned(
    options: ConfirmOptions, model: str, configurations: Sequence[Configuration]
) -> ConfirmationPlan:
    """The plan of an architecture as the command line asks for it, which is kept."""
    while True:
        before = plans.read_plan(options.runs_dir, model)
        plan = _plan(options, model, configurations, before)
        if options.dry_run or plan == before or plans.write_plan(options.runs_dir, plan, before):
            return plan


def _plan(
    options: ConfirmOptions,
    model: str,
    configurations: Sequence[Configuration],
    before: ConfirmationPlan | None,
) -> ConfirmationPlan:
    chosen = plans.shortlist(configurations, options.k or _K, before)
    if options.k and len(chosen) < options.k:
        raise UserError(
            f"-k {options.k}: {model} has {len(chosen)} configurations with a finished run; "
            f"expected at most {len(chosen)}, or another --model"
        )
    first = before.first_seed if before else plans.first_free_seed(configurations)
    plan = ConfirmationPlan(
        model=model,
        shortlist=before.shortlist if before else (),
        seeds=options.seeds,
        final_seeds=options.final_seeds,
        race=options.race,
        margin=options.margin,
        first_seed=first,
        first_final_seed=first + plans.SEEDS_APART,
    )
    return plans.extended(plan, chosen)


def _write_sets(runs_dir: Path, confirmations: Sequence[Confirmation]) -> None:
    """Write the missing runs of each architecture as a set file; remove those of before."""
    folder = confirmation_sets_dir(runs_dir)
    missing = [confirmation.missing for confirmation in confirmations if confirmation.missing]
    for number, path in sets.numbered(folder):
        if number > len(missing):
            path.unlink(missing_ok=True)
    if missing:
        sets.write(missing, folder)


def _print(options: ConfirmOptions, confirmations: Sequence[Confirmation]) -> None:
    for confirmation in confirmations:
        confirmation_output.print_state(confirmation)
    if any(confirmation.missing for confirmation in confirmations) and not options.dry_run:
        folder = shown(confirmation_sets_dir(options.runs_dir))
        runs = "" if options.runs_dir == RUNS_DIR else f" --runs {shown(options.runs_dir)}"
        print(f"Train them: python -m src.sweep work --sets {folder}{runs}; then confirm again.")


def _executor(flags: Sequence[str]) -> str:
    """The executor that flags of submit name. Raises UserError for flags that do not fit."""
    given = submit_options.read_flags(flags)
    if given.prune:
        raise UserError("--submit --prune: replicates are trained to their end")
    if given.dry_run:
        raise UserError("--submit --dry_run: expected --dry_run before --submit")
    defaults = submit_options.read_flags([])
    for name in ("numbers", "sets", "grid", "runs"):
        if getattr(given, name) != getattr(defaults, name):
            raise UserError(f"--submit --{name}: the runs are those of the shortlist")
    return str(given.executor)

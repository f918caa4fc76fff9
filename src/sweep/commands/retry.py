"""Remove recorded failures, so that runs are tried again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.arguments import Parser
from src.cli.common_options import add_runs_option
from src.common.errors import ExitStatus, UserError, one_line
from src.common.paths import shown
from src.faults import job_restarts
from src.faults.node_health import forget_node_failures
from src.runs.run_folder import RunFolder, State
from src.sweep.command_options import add_run_arguments, selected_runs
from src.sweep.status.failures import kind_of


@dataclass(frozen=True)
class Failed:
    """A failed run and its failure."""

    folder: RunFolder
    failure: dict[str, Any]

    @property
    def kinds(self) -> tuple[str, str]:
        """The words that select this failure: its class, and the name of the exception."""
        return kind_of(self.failure), str(self.failure.get("kind"))


def main(arguments: Sequence[str]) -> ExitStatus:
    """Remove the selected failures, and list them."""
    parsed = _parser().parse(arguments)
    runs = selected_runs(parsed, otherwise_all=parsed.kind is not None)
    states = [(run, run.state()) for run in runs]
    if parsed.run:
        _refuse_running(states)
    failed = [Failed(run, run.failure() or {}) for run, state in states if state == State.FAILED]
    forgotten = _of_kind(failed, parsed.kind)
    for failed_run in forgotten:
        if not parsed.dry_run:
            failed_run.folder.forget_outcome()
        message = one_line(failed_run.failure.get("message", ""))
        print(f"{shown(failed_run.folder.path)}: {failed_run.kinds[0]}: {message}")
    for run, state in states:
        if parsed.run and state != State.FAILED:
            print(f"{shown(run.path)}: left as it is: {state}, not failed")
    if not parsed.dry_run:
        _readmit_nodes(parsed.runs)
    would = "would be" if parsed.dry_run else "are"
    print(f"{len(forgotten)} failures {would} forgotten; `work` tries these runs again")
    return ExitStatus.DONE


def _readmit_nodes(runs_dir: Path) -> None:
    nodes = forget_node_failures(runs_dir)
    for node in nodes:
        print(f"node {node}: its failure records are deleted; restarted jobs may use it again")
    for job in job_restarts.readmit(runs_dir, nodes) if nodes else []:
        print(f"job {job}, which is waiting, may use it again too")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep retry",
        description="Remove recorded failures, so that the next `work` trains these runs again, "
        "diverged ones too. Their checkpoints are kept. Failures that count against nodes are "
        "removed as well.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help="only failures of this kind: a failure class or an exception, as in `status`",
    )
    add_runs_option(parser)
    return parser


def _refuse_running(states: Sequence[tuple[RunFolder, State]]) -> None:
    for run, state in states:
        if state == State.RUNNING:
            raise UserError(f"RUN {run.path.name!r}: it is running; expected runs that failed")


def _of_kind(failed: Sequence[Failed], kind: str | None) -> list[Failed]:
    """The failures of a kind. Raises UserError if there are failures, but none of that kind."""
    matching = [failed_run for failed_run in failed if kind is None or kind in failed_run.kinds]
    if failed and not matching:
        known = ", ".join(sorted({failed_run.kinds[0] for failed_run in failed}))
        raise UserError(f"--kind {kind!r}: nothing failed of that; expected one of {known}")
    return matching

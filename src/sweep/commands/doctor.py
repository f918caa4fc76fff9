"""Check a cluster before the first sweep: Slurm, its nodes, the file system and the data."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from src.cli.arguments import Parser, positive_float
from src.cli.common_options import add_json_option, add_runs_option
from src.cli.config_flags import value_of_field
from src.cli.terminal import console
from src.common.data_names import SYNTHETIC, default_dataset_path
from src.common.errors import ExitStatus, Stopped
from src.common.json_text import json_text
from src.common.signals import StopSignal
from src.config import RunConfig
from src.sweep.doctor.checks import Level, checks_table
from src.sweep.doctor.cluster_checks import slurm_checks
from src.sweep.doctor.folder_checks import data_check, runs_folder_checks
from src.sweep.doctor.probe_job import probe_checks
from src.sweep.launch.resource_options import add_resource_options, parsed_resources


def main(arguments: Sequence[str]) -> ExitStatus:
    """Print a table of all checks. The exit status is 1 if one is wrong."""
    parsed = _parser().parse(arguments)
    stop = StopSignal().install()
    resources, runs_dir = parsed_resources(parsed), parsed.runs.resolve()
    path = parsed.base_dataset_path or default_dataset_path(parsed.dataset)
    checks = [
        *slurm_checks(resources),
        *runs_folder_checks(runs_dir),
        data_check(path, parsed.dataset),
    ]
    if parsed.probe and not any(check.level is Level.WRONG for check in checks):
        absolute = path if path == SYNTHETIC else str(Path(path).expanduser().resolve())
        data = absolute, parsed.dataset
        checks += probe_checks(resources, runs_dir, data, parsed.wait, stop)
    if parsed.json:
        print(json_text([asdict(check) for check in checks]))
    else:
        console().print(checks_table(checks))
    if stop():
        raise Stopped
    failed = any(check.level is Level.WRONG for check in checks)
    return ExitStatus.SOME_RUNS_FAILED if failed else ExitStatus.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep doctor",
        description="Check whether a sweep would work here: Slurm, its partition, limits and GPUs; "
        "the runs folder and its file system; the data; and by a probe job of two tasks, whether "
        "nodes see all of that and get their signals. Exit status 1 if a sweep would fail.",
    )
    add_runs_option(parser)
    parser.add_argument(
        "-d",
        "--base_dataset_path",
        metavar="DIR",
        help="data of the sweep [CIFAR10_DIR, else ./cifar-10]",
    )
    parser.add_argument(
        "--dataset",
        type=value_of_field("dataset"),
        default=RunConfig.dataset,
        metavar="NAME",
        help="its data set [cifar10]",
    )
    parser.add_argument(
        "--wait",
        type=positive_float,
        default=120.0,
        metavar="SECONDS",
        help="for the probe job to start [120]",
    )
    parser.add_argument(
        "--no_probe", dest="probe", action="store_false", help="submit no probe job"
    )
    add_json_option(parser)
    add_resource_options(parser.add_argument_group("what each worker asks of Slurm"))
    return parser

"""Suggest a learning rate for a run."""

import json
from collections.abc import Sequence
from pathlib import Path

from src.cli.arguments import Parser, positive_float, positive_int
from src.cli.config_flags import add_config_flags, config_from
from src.common.errors import ExitStatus
from src.common.paths import shown
from src.train import dataset_at
from src.tune.output_options import add_out_options


def main(arguments: Sequence[str]) -> ExitStatus:
    """Measure, draw the curve, and print what it suggests."""
    parser = Parser(
        prog="python -m src.tune lr-find",
        description="Learning-rate range test: train some steps on the run's own batches while "
        "the rate grows, and suggest the rate at which the loss falls fastest. Creates no run "
        "folder.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file; flags win over it")
    parser.add_argument(
        "--start",
        type=positive_float,
        default=1e-7,
        metavar="RATE",
        help="first learning rate [1e-7]",
    )
    parser.add_argument(
        "--end", type=positive_float, default=10.0, metavar="RATE", help="last learning rate [10]"
    )
    parser.add_argument(
        "--steps", type=positive_int, default=100, metavar="N", help="training steps [100]"
    )
    add_out_options(parser, "the curve goes, as chart and table")
    add_config_flags(parser)
    parsed = parser.parse(arguments)
    config, _ = config_from(parsed, dataset_at)
    from src.tune import lr_range_test as finder

    curve = finder.measure(config, finder.RateSweep(parsed.start, parsed.end, parsed.steps))
    from src.tune import search_charts

    stem = parsed.config.stem if parsed.config else config.model_name
    path = parsed.out / f"{stem}_lr_find"
    drawn = search_charts.draw_curve(curve, config, path)
    finder.save_csv(curve, path.with_name(f"{path.name}.csv"))
    if parsed.json:
        print(json.dumps({"learning_rate": curve.suggestion, "steps": len(curve.rates)}))
        return ExitStatus.DONE
    print(f"learning rate:  {curve.suggestion:g}")
    print(f"curve:          {shown(drawn[0])}")
    return ExitStatus.DONE

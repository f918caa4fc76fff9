"""Options that both commands of src.tune share."""

from pathlib import Path

from src.cli.arguments import Parser
from src.cli.common_options import add_json_option
from src.common.paths import REPORT_DIR


def add_out_options(parser: Parser, what: str) -> None:
    """Add --out and --json. what: describes the output."""
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help=f"where {what} [report]"
    )
    add_json_option(parser)

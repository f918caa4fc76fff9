"""Options that both commands share."""

from pathlib import Path

from src.cli.arguments import Parser
from src.common.paths import REPORT_DIR


def add_out_options(parser: Parser, what: str) -> None:
    """Where results go, and --json. what: what goes there."""
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help=f"where {what} [report]"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")

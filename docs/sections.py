"""Replace the part of a document that a command writes."""

from pathlib import Path

from src.common import files


def replace_section(document: Path, begin: str, end: str, text: str) -> None:
    """Write `text` between the lines `begin` and `end` of a document, which stand in it once."""
    before, rest = document.read_text().split(begin)
    _, after = rest.split(end)
    files.write_text(document, f"{before}{begin}\n{text}\n{end}{after}")

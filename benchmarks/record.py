"""Result files: measurements with machine, versions, commit and date."""

import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

from src.common import files
from src.common.git import git_commit
from src.common.paths import shown
from src.training.device import device_name, has_fast_bfloat16, versions

RESULTS = Path(__file__).resolve().parent / "results"

Cell = str | int | float | None


def machine(device: torch.device) -> dict[str, Any]:
    """Return the description of machine, versions, commit and date."""
    gpu = device.type == "cuda"
    return {
        "date": date.today().isoformat(),
        "device": device_name(device),
        "cpu": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu_memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1) if gpu else None,
        "native_bfloat16": has_fast_bfloat16(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "cudnn": versions(device).get("cudnn"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "git_commit": git_commit(),
    }


@dataclass
class Table:
    """Rows under columns, and notes below them."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        head = [self.columns, ["---"] * len(self.columns)]
        lines = [f"| {' | '.join(map(_text, row))} |" for row in [*head, *self.rows]]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"## {self.title}", "", *lines, *([""] if notes else []), *notes])


@dataclass
class Record:
    """All measurements of one command; the files are rewritten after each new row."""

    kind: str
    device: torch.device
    settings: dict[str, Any]
    out: Path
    tables: list[Table] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = machine(self.device)
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        """Path of the JSON file; the Markdown file is beside it."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.machine["device"].lower()).strip("-")
        return self.out / f"{self.kind}-{slug}-{self.machine['date']}.json"

    def table(self, title: str, columns: Sequence[str], notes: Sequence[str] = ()) -> Table:
        """Add an empty table and return it."""
        self.tables.append(Table(title, columns, notes=list(notes)))
        print(" | ".join(columns), flush=True)
        return self.tables[-1]

    def add(self, table: Table, row: Sequence[Cell], **measured: object) -> None:
        """Add a row, print it, and rewrite the files."""
        table.rows.append(row)
        self.measurements.append(
            {"table": table.title, **dict(zip(table.columns, row, strict=True)), **measured}
        )
        print(" | ".join(map(_text, row)), flush=True)
        self.write()

    def write(self) -> None:
        """Write the JSON file and the Markdown file beside it."""
        value = {
            "kind": self.kind,
            "machine": self.machine,
            "settings": self.settings,
            "measurements": self.measurements,
            "notes": {table.title: table.notes for table in self.tables},
        }
        files.write_json(self.path, value)
        settings_text = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        about = [f"- {name.replace('_', ' ')}: {v}" for name, v in self.machine.items() if v]
        about.append(f"- settings: {settings_text}")
        parts = [f"# {self.kind}", "\n".join(about), *(t.markdown() for t in self.tables)]
        files.write_text(self.path.with_suffix(".md"), "\n\n".join(parts) + "\n")

    def print_path(self) -> None:
        """Print the path of the files on stderr."""
        print(f"written: {shown(self.path)} and .md", file=sys.stderr)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"

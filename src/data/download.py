"""Download a data set into a folder, all or nothing."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from src.common.errors import UserError, one_line
from src.common.temporary_files import apply_umask

_TIMEOUT_SECONDS = 30
_PREFIX = ".download-"


def download(
    folder: Path, part: str, fetch: Callable[[str], object], *, name: str, expected: str
) -> None:
    """Make `folder` with what `fetch` puts into the folder that it is given.

    part: what of it is to be moved, '.' for everything; if `folder`/`part` is there by then,
    another process was quicker. name: of the data set; expected: what else a folder may have, both
    for the UserError that is raised where it fails. Nothing is then left behind.
    """
    made = [parent for parent in folder.parents if not parent.exists()]  # the innermost first
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder.parent) as scratch:
            with _socket_timeout(_TIMEOUT_SECONDS):
                fetch(scratch)
            for path in [Path(scratch), *Path(scratch).rglob("*")]:
                path.chmod(apply_umask(0o755 if path.is_dir() else 0o644))
            _move_unless_there(Path(scratch), folder, part)
    except (OSError, RuntimeError) as error:
        for parent in made:
            with suppress(OSError):  # another process has put something there
                parent.rmdir()
        raise UserError(
            f"--base_dataset_path {str(folder)!r}: no such folder, and {name} could not be "
            f"downloaded ({one_line(error)}); give a folder with {expected}, or 'synthetic'"
        ) from None


def _move_unless_there(scratch: Path, folder: Path, part: str) -> None:
    """Rename what was fetched into place; another process may have been quicker."""
    staged = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder.parent))
    try:
        staged.chmod(apply_umask(0o755))
        for entry in list(scratch.iterdir()) if part == "." else [scratch / part]:
            os.rename(entry, staged / entry.name)
        os.rename(staged, folder)
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)
        if not (folder / part).is_dir():
            raise


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

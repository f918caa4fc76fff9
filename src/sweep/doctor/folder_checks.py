"""Checks of this machine: the runs folder, its file system, and the data."""

import grp
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from src.common import files
from src.common.errors import UserError, format_bytes
from src.common.temporary_files import apply_umask
from src.sweep.doctor.checks import Check, ok, warning, wrong

_SHARED = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "panfs", "wekafs", "9p")
_LITTLE_BYTES = 20e9
_MOUNTS = Path("/proc/mounts")


def runs_folder_checks(runs_dir: Path) -> Iterator[Check]:
    """Can files be written there, is link(2) reliable, is there room, may others work there?"""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        yield from _link_checks(runs_dir / f".doctor-{uuid4().hex}")
    except OSError as error:
        yield wrong(
            "runs folder",
            f"{runs_dir}: {error.strerror or error}",
            "--runs with a folder that you may write to",
        )
        return
    file_system_type = file_system(runs_dir)
    if file_system_type in _SHARED:
        yield ok("file system", f"{file_system_type}, which nodes share")
    else:
        yield warning(
            "file system",
            f"{file_system_type}: perhaps of this machine alone",
            "the runs folder must be the same on all nodes: --runs on a shared file system",
        )
    free = shutil.disk_usage(runs_dir).free
    if free < _LITTLE_BYTES:
        yield warning(
            "free space",
            f"{format_bytes(free)}",
            "the reference sweep takes about 100 GB; --keep_checkpoints none, or sweep clean",
        )
    else:
        yield ok("free space", format_bytes(free))
    yield group_check(runs_dir, apply_umask(0o777))


def group_check(runs_dir: Path, mode: int) -> Check:
    """Whether other members of the folder's group can work there. mode: of new folders."""
    status = runs_dir.stat()
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    inherits, writable = bool(status.st_mode & stat.S_ISGID), bool(status.st_mode & stat.S_IWGRP)
    if writable and inherits and mode & stat.S_IWGRP:
        return ok("group rights", f"members of {group} can work there too")
    return warning(
        "group rights",
        f"members of {group} cannot work there",
        f"so that they can: chmod g+ws {runs_dir}; and umask 002 for each of you",
    )


def data_check(path: str, dataset: str) -> Check:
    """Whether the images are there and whole, as a run would read them."""
    from src import data

    if not data.is_here(path):
        return warning(
            "data",
            f"{path}: not there",
            "the first run downloads it if it is built in; nodes without internet cannot: copy it "
            "there, or -d",
        )
    try:
        images = data.load(path, dataset)
    except UserError as error:
        return wrong("data", str(error), f"-d with the folder of {dataset}")
    return ok(
        "data", f"{path}: {len(images.train_labels):,} and {len(images.test_labels):,} images"
    )


def file_system(path: Path) -> str:
    """The type of the file system of a path, from /proc/mounts."""
    best, file_system_type = "", "unknown"
    for line in _MOUNTS.read_text().splitlines() if _MOUNTS.exists() else []:
        _, place, name, *_ = line.split()
        place = place.replace("\\040", " ")
        if path.resolve().is_relative_to(place) and len(place) >= len(best):
            best, file_system_type = place, name
    return file_system_type


def _link_checks(path: Path) -> Iterator[Check]:
    """Write a file once, and see that it cannot be written twice."""
    try:
        first, second = files.write_once(path, b"1"), files.write_once(path, b"2")
        if first and not second and path.read_bytes() == b"1":
            yield ok("runs folder", f"{path.parent}: files can be written, link(2) holds")
        else:
            yield wrong(
                "runs folder",
                f"{path.parent}: link(2) does not hold: a file was made twice",
                "two workers could train one run; use another file system",
            )
    except PermissionError as error:
        if not os.access(path.parent, os.W_OK):
            raise
        yield wrong(
            "runs folder",
            f"{path.parent}: link(2): {error.strerror}",
            "leases need hard links: use another file system for --runs",
        )
    finally:
        path.unlink(missing_ok=True)

"""Import source files that were read before, from memory: what runs is what the digest is of."""

import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from src.common.errors import class_and_message
from src.common.model_source import ModelSource, model_error


class _SourceFinder(MetaPathFinder, ExecutionLoader):
    """Finds and loads the modules of one source. A single file gets a module name of its own."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        top, _, _ = source.main.removesuffix(".py").partition("/")
        if not source.is_package:
            top = f"own_model_{re.sub(r'[^0-9A-Za-z]', '_', top)}_{source.digest}"
        self.top = top

    def module_of(self, source: ModelSource) -> str:
        """The module of the class or function that an equal source is named for."""
        return source.reference.module if source.is_package else self.top

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of the source. None for others."""
        name = self._file(fullname)
        if name is None and not self._is_folder(fullname):
            return None
        is_package = name is None or name.endswith("/__init__.py")
        spec = spec_from_loader(
            fullname, self, origin=self.get_filename(fullname), is_package=is_package
        )
        if spec:
            spec.has_location = name is not None  # sets __file__
        return spec

    def get_filename(self, fullname: str) -> str:
        """The path of a module's file, for tracebacks."""
        return str(self.source.root / (self._file(fullname) or fullname.replace(".", "/")))

    def get_source(self, fullname: str) -> str:
        """The text of a module. Empty for a folder without __init__.py."""
        name = self._file(fullname)
        return "" if name is None else decode_source(self.source.files[name])

    def is_package(self, fullname: str) -> bool:
        """Whether a module is the folder of others."""
        return (self._file(fullname) or "/__init__.py").endswith("/__init__.py")

    def _file(self, fullname: str) -> str | None:
        if not self.source.is_package:
            return self.source.main if fullname == self.top else None
        path = fullname.replace(".", "/")
        return next(
            (n for n in (f"{path}/__init__.py", f"{path}.py") if n in self.source.files), None
        )

    def _is_folder(self, fullname: str) -> bool:
        folder = f"{fullname.replace('.', '/')}/"
        return self.source.is_package and any(n.startswith(folder) for n in self.source.files)


def imported(source: ModelSource) -> Any:
    """The class or function that a source is named for.

    Raises UserError, with file and line, if the code raises while it is imported, and if its name
    is that of an installed package, which it would hide.
    """
    finder = _installed(source)
    try:
        module = import_module(finder.module_of(source))
    except (Exception, SystemExit) as raised:  # a person's code may raise anything
        _remove(finder)
        raise model_error(source.reference, place_and_message(source, raised)) from raised
    if not hasattr(module, source.reference.attribute):
        raise model_error(source.reference, f"no {source.reference.attribute} in {source.main}")
    return getattr(module, source.reference.attribute)


def place_and_message(source: ModelSource, raised: BaseException) -> str:
    """What was raised and in which line of the source, in one line."""
    files = {str(source.root / name): name for name in source.files}
    frames = traceback.extract_tb(raised.__traceback__)
    places = [f"{files[f.filename]}, line {f.lineno}: " for f in frames if f.filename in files]
    if isinstance(raised, SyntaxError) and raised.filename in files:
        places.append(f"{files[raised.filename]}, line {raised.lineno}: ")
    return f"{places[-1] if places else ''}{class_and_message(raised)}"


def _installed(source: ModelSource) -> _SourceFinder:
    """The finder of a source, in place of one of other sources with the same module name."""
    finders = [finder for finder in sys.meta_path if isinstance(finder, _SourceFinder)]
    new_finder = _SourceFinder(source)
    for finder in finders:
        if finder.top == new_finder.top:
            if finder.source.digest == source.digest:
                return finder
            _remove(finder)
    if new_finder.top in sys.modules or (
        source.is_package and _is_installed(source, new_finder.top)
    ):
        raise model_error(
            source.reference,
            f"{new_finder.top} is also the name of an installed package; rename yours",
        )
    sys.meta_path.insert(0, new_finder)
    return new_finder


def _is_installed(source: ModelSource, top: str) -> bool:
    """Whether another package of this name is part of Python or was installed into it."""
    folders = [place for place in sysconfig.get_paths().values() if Path(place) != source.root]
    return PathFinder.find_spec(top, folders) is not None


def _remove(finder: _SourceFinder) -> None:
    sys.meta_path.remove(finder)
    for name in list(sys.modules):
        if name == finder.top or name.startswith(f"{finder.top}."):
            del sys.modules[name]

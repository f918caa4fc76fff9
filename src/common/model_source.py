"""Architectures that are not of this project: what a name of one means, and its source files.

Names are `FILE.py:NAME` and `PACKAGE.MODULE:NAME`, whose source is a person's own code, and
`torchvision:NAME` and `timm:NAME`. Nothing is imported or executed here: source is read as text.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from src.common.errors import UserError
from src.common.option_fields import did_you_mean
from src.common.paths import COMMIT, OWN_MODELS, ROOT

LIBRARIES = ("torchvision", "timm")
_NAME = r"[A-Za-z_]\w*"
PATTERN = (
    rf"/?(?:[\w.+-]+/)*\w[\w.+-]*\.py:{_NAME}|{_NAME}(?:\.{_NAME})*:{_NAME}"
    r"|timm:\w[\w.-]*"
)
"""Regular expression of the names, for ASCII."""
IN_WORDS = "FILE.py:NAME, PACKAGE.MODULE:NAME, torchvision:NAME, timm:NAME"
_THIS_PROJECT = "src"
_DIGITS = 16  # hexadecimal, of a digest


@dataclass(frozen=True)
class ModelReference:
    """The two parts of a name: where an architecture is, and its class or function there."""

    place: str
    """A file, a dotted module, or a library."""
    attribute: str

    def __str__(self) -> str:
        return f"{self.place}:{self.attribute}"

    @property
    def is_library(self) -> bool:
        """Whether it names a model of torchvision or timm, and no file."""
        return self.place in LIBRARIES

    @property
    def is_file(self) -> bool:
        """Whether it names a file, and not a module."""
        return self.place.endswith(".py")

    @property
    def module(self) -> str:
        """The dotted module: of a file its name without .py."""
        return PurePosixPath(self.place).stem if self.is_file else self.place

    @property
    def model_name(self) -> str:
        """A name for tables and folders: my_nets.SmallNet, torchvision.resnet18."""
        return f"{self.module}.{self.attribute}"


@dataclass(frozen=True)
class ModelSource:
    """The source files that a reference means, as they were when they were found."""

    reference: ModelReference
    root: Path
    """The folder that holds the file or the package."""
    files: Mapping[str, bytes]
    """Content by path in `root`, with /."""
    main: str
    """The file of `files` that has the class or function."""

    @property
    def is_package(self) -> bool:
        """Whether all files of a package are meant, and not a single one."""
        return "/" in self.main

    @property
    def shown(self) -> str:
        """What was named, for messages: the file, or the folder of the package."""
        return self.reference.place if self.reference.is_file else self.main.partition("/")[0]

    @cached_property
    def digest(self) -> str:
        """Hexadecimal digits that are equal for equal names and contents of the files."""
        whole = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            whole.update(f"{name}\0{len(content)}\0".encode() + content)
        return whole.hexdigest()[:_DIGITS]


def reference_of(model_type: str) -> ModelReference | None:
    """What a value of --model_type refers to. None for an architecture of this project."""
    place, colon, attribute = model_type.partition(":")
    return ModelReference(place, attribute) if colon else None


def model_name(model_type: str) -> str:
    """The name of an architecture in tables, charts and folders."""
    reference = reference_of(model_type)
    return reference.model_name if reference else model_type


def type_of_name(name: str) -> str:
    """A value of --model_type for `model_name`: my_nets:SmallNet for my_nets.SmallNet.

    It means the same architecture if its file or package is in the current folder.
    """
    place, dot, attribute = name.rpartition(".")
    if name.partition(".")[0] in LIBRARIES:
        place, dot, attribute = name.partition(".")
    return f"{place}:{attribute}" if dot else name


def code_of(model_type: str) -> ModelReference | None:
    """What a value of --model_type refers to, if that is a person's own code."""
    reference = reference_of(model_type)
    return None if reference is None or reference.is_library else reference


def find(reference: ModelReference) -> ModelSource:
    """The source of a custom architecture, read and checked without executing it.

    A file is looked for where its path says, a module in the current folder and on Python's path;
    in a copy of the code that was submitted, in that copy first. Raises UserError if it is missing,
    is no valid Python, lacks the name, or imports files that its digest would not cover.
    """
    source = _source_of_file(reference) if reference.is_file else _source_of_module(reference)
    tree = _parsed(source)
    _check_names(source, tree)
    if not source.is_package:
        _check_imports(source, tree)
    return source


def copy_place(reference: ModelReference) -> Path:
    """Where a submission's copy of the code holds the source of a reference, below its root."""
    return Path(OWN_MODELS) / hashlib.sha256(reference.place.encode()).hexdigest()[:_DIGITS]


def model_error(reference: ModelReference, message: str) -> UserError:
    """An error about an architecture that was named."""
    return UserError(f"--model_type {str(reference)!r}: {message}")


# what a person has named in this process

_trusted: dict[str, dict[str, ModelSource]] = {}
"""By name of the model, then by digest."""


def trust_source(source: ModelSource) -> None:
    """Allow this process to import a source, because a person has named it.

    Files of run folders name architectures too, and are often written by others: `trusted_source`
    gives only what was allowed here, whatever place a file names.
    """
    _trusted.setdefault(source.reference.model_name, {})[source.digest] = source


def trust_model(model_type: str) -> str | None:
    """Allow this process to import the source of an architecture, and return its digest.

    None, and nothing to allow, for architectures of this project and of libraries. Raises
    UserError as `find` does.
    """
    reference = code_of(model_type)
    if reference is None:
        return None
    source = find(reference)
    trust_source(source)
    return source.digest


def trusted_source(reference: ModelReference, digest: str | None) -> ModelSource:
    """The source of this name and digest that a person has named. Raises UserError if none is."""
    known = _trusted.get(reference.model_name, {})
    if digest in known:
        return known[digest]
    if known:
        *_, source = known.values()
        raise model_error(
            reference,
            f"{source.shown} is not as it was when this run was trained (digest {digest}, "
            f"now {source.digest})",
        )
    raise model_error(
        reference, f"this is code, which is run only if you name it yourself: -m {reference}"
    )


# finding


def _copied(reference: ModelReference) -> Path | None:
    """The folder with the source of a reference in the copy of the code that this process runs."""
    place = ROOT / copy_place(reference)
    return place if (ROOT / COMMIT).is_file() and place.is_dir() else None


def _source_of_file(reference: ModelReference) -> ModelSource:
    given = Path(reference.place)
    copied = _copied(reference)
    path = copied / given.name if copied else given
    try:
        content = path.read_bytes()
    except OSError as failed:
        where = "" if given.is_absolute() else f" in {Path.cwd()}"
        raise model_error(reference, f"{failed.strerror}{where}") from None
    return ModelSource(reference, path.absolute().parent, {path.name: content}, path.name)


def _source_of_module(reference: ModelReference) -> ModelSource:
    top, *_ = parts = reference.module.split(".")
    if top == _THIS_PROJECT:
        raise model_error(reference, f"{top} is this project; expected a package with another name")
    copied = _copied(reference)
    for root in dict.fromkeys([*([copied] if copied else []), Path.cwd(), *_path_folders()]):
        single = root / f"{top}.py"
        if len(parts) == 1 and single.is_file():
            return ModelSource(reference, root, {single.name: single.read_bytes()}, single.name)
        if (root / top).is_dir() and (files := _package_files(root, top)):
            return ModelSource(reference, root, files, _main_file(reference, files))
    raise model_error(
        reference, f"no {top}.py and no package {top} in {Path.cwd()} or on Python's path"
    )


def _path_folders() -> list[Path]:
    return [Path(entry).absolute() for entry in sys.path if entry and Path(entry).is_dir()]


def _package_files(root: Path, top: str) -> dict[str, bytes]:
    """The .py files of a package, without hidden folders."""
    paths = (path.relative_to(root) for path in sorted((root / top).rglob("*.py")))
    return {
        path.as_posix(): (root / path).read_bytes()
        for path in paths
        if not any(part.startswith((".", "__pycache__")) for part in path.parts)
    }


def _main_file(reference: ModelReference, files: Mapping[str, bytes]) -> str:
    path = reference.module.replace(".", "/")
    for name in (f"{path}.py", f"{path}/__init__.py"):
        if name in files:
            return name
    modules = [name.removesuffix(".py").replace("/", ".") for name in files]
    modules = [name for name in modules if not name.endswith("__init__")]
    raise model_error(
        reference, f"no module {reference.module}{did_you_mean(reference.module, modules)}"
    )


# checking


def _parsed(source: ModelSource) -> ast.Module:
    try:
        return ast.parse(source.files[source.main])
    except SyntaxError as wrong:
        raise model_error(
            source.reference, f"{source.main}, line {wrong.lineno}: {wrong.msg}"
        ) from None
    except ValueError as wrong:  # such as null bytes
        raise model_error(source.reference, f"{source.main}: no Python source: {wrong}") from None


def _check_names(source: ModelSource, tree: ast.Module) -> None:
    bound = list(_bound(tree.body))
    attribute = source.reference.attribute
    if attribute in bound or "*" in bound:
        return
    public = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]
    hint = did_you_mean(attribute, public) if public else " (it has no class or function)"
    raise model_error(source.reference, f"no {attribute} in {source.main}{hint}")


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """The names that top-level statements bind; '*' for those that cannot be told."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            )
        else:  # conditions and loops, which may bind anything
            inner = [part for part in ast.walk(node) if isinstance(part, ast.stmt)][1:]
            yield from _bound(inner)


def _check_imports(source: ModelSource, tree: ast.Module) -> None:
    """Raise UserError if a single file imports others beside it: they belong into a package."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = ["." if node.level else str(node.module)]
        for name in names:
            top = name.partition(".")[0]
            if top in (_THIS_PROJECT, *sys.stdlib_module_names):
                continue
            beside = source.root / top
            if not top or beside.with_suffix(".py").is_file() or any(beside.glob("*.py")):
                package = f"{source.root.name}.{source.reference.module}"
                raise model_error(
                    source.reference,
                    f"{source.main} imports {top or 'a module'} beside it; name the package that "
                    f"holds both, from the folder above: {package}:{source.reference.attribute}",
                )

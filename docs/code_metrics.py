"""Measure the structure of src/ and write it as a table into docs/architecture.md: `make metrics`.

Per package (a folder of src/, or `src` for its top-level modules): number of modules and lines,
median and longest function, the shares of code, docstrings and comments, and what it imports. For
all packages: duplicate names of modules, classes and type aliases, import circles, backward
imports.
"""

import ast
import graphlib
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from docs.sections import replace_section
from src.common.paths import ROOT

DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- metrics: begin -->", "<!-- metrics: end -->"

CHAIN = (
    *("common", "slurm", "faults", "cpu", "config", "cli"),
    *("data", "models", "training", "runs", "pruning", "comparison", "report", "tracking"),
    *("run", "train", "evaluation_report", "export", "evaluate", "sweep", "tune", "main"),
    "results",
)
"""All of src/ in the order of data flow. Each imports only from earlier ones."""

NAMED_BY_FRAMEWORKS = ("__init__", "__main__")
ONE_PER_COMMAND = ("commands",)
"""Folders whose modules are named after commands."""


@dataclass(frozen=True)
class Module:
    """A Python file of src/."""

    path: Path
    name: str
    """Dotted name, without __init__."""
    tree: ast.Module
    text: str

    @property
    def package(self) -> str:
        """The folder of src/ that contains the module, or `src`."""
        parts = self.path.relative_to(ROOT).parts
        return parts[1] if len(parts) > 2 else "src"

    @property
    def part(self) -> str:
        """The package, or the name of a file beside the packages, such as `run.py`."""
        return self.package if self.package != "src" else self.path.name


def modules() -> list[Module]:
    """Return all modules of src/, sorted by path."""
    return [read(path) for path in sorted((ROOT / "src").rglob("*.py"))]


def read(path: Path) -> Module:
    """Parse a file of src/."""
    text = path.read_text()
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return Module(path, dotted.removesuffix(".__init__"), ast.parse(text), text)


def imported_names(tree: ast.AST, *, at_import: bool = False) -> list[str]:
    """Return the dotted names that a module imports, all or (at_import) at its own import.

    Raises AssertionError for a relative import, which src/ does not use.
    """
    names: list[str] = []
    for node in _nodes(tree, at_import=at_import):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _nodes(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (at_import and _runs_later(node)):
            yield node
            yield from _nodes(node, at_import=at_import)


def _runs_later(node: ast.AST) -> bool:
    """Return whether a node is a function, or a block for type checkers only."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def is_backward(module: str, imported: str) -> bool:
    """Return whether an import is of a later package. `__main__` modules may import any."""
    here, there = _package_of(module), _package_of(imported)
    if not imported.startswith("src.") or here not in CHAIN or module.endswith(".__main__"):
        return False
    return CHAIN.index(there) > CHAIN.index(here)


def _package_of(dotted: str) -> str:
    return [*dotted.split("."), ""][1]


def backward_imports(src_modules: Sequence[Module]) -> list[str]:
    """Return all backward imports as 'module -> imported'."""
    return [
        f"{module.name} -> {name}"
        for module in src_modules
        for name in imported_names(module.tree)
        if is_backward(module.name, name)
    ]


def duplicate_module_names(src_modules: Sequence[Module]) -> list[str]:
    """Return module names used twice, except those of commands and frameworks."""
    counts = Counter(
        module.path.stem
        for module in src_modules
        if module.path.stem not in NAMED_BY_FRAMEWORKS
        and module.path.parent.name not in ONE_PER_COMMAND
    )
    packages = Counter(
        module.path.parent.name for module in src_modules if module.path.stem == "__init__"
    )
    duplicates = [name for name, count in (counts + packages).items() if count > 1]
    return sorted(name for name in duplicates if name not in ONE_PER_COMMAND)


def duplicate_class_names(src_modules: Sequence[Module]) -> list[str]:
    """Return names of classes and type aliases used twice."""
    classes = (
        node.name
        for module in src_modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    )
    aliases = (name for module in src_modules for name in type_aliases(module.tree))
    counts = Counter([*classes, *aliases])
    return sorted(name for name, count in counts.items() if count > 1)


def type_aliases(tree: ast.Module) -> list[str]:
    """Return the type aliases of a module, such as `Points = list[tuple[int, float]]`."""
    return [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", target.id)
    ]


def import_graph(src_modules: Sequence[Module]) -> dict[str, set[str]]:
    """Return for each module the modules of src/ that it imports anywhere."""
    known = {module.name for module in src_modules}
    graph: dict[str, set[str]] = {}
    for module in src_modules:
        targets = {_module_in(name, known) for name in imported_names(module.tree)}
        graph[module.name] = {target for target in targets if target and target != module.name}
    return graph


def imported_parts(src_modules: Sequence[Module]) -> dict[str, list[str]]:
    """Return for each package, and for each file beside them, those that it imports."""
    parts = {module.name: module.part for module in src_modules}
    imported: dict[str, set[str]] = {part: set() for part in parts.values()}
    for name, targets in import_graph(src_modules).items():
        imported[parts[name]] |= {parts[target] for target in targets} - {parts[name]}
    return {part: sorted(targets) for part, targets in imported.items()}


def _module_in(dotted: str, known: set[str]) -> str | None:
    """Return the module that an imported name is or belongs to; None if it is not in src/."""
    if dotted in known:
        return dotted
    parent = dotted.rpartition(".")[0]
    return parent if parent in known else None


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, the first one again at the end."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        members: list[str] = error.args[1]
        return members
    return []


def line_kinds(module: Module) -> Counter[str]:
    """Count the lines of a module by kind: code, docstring, (trailing) comment, blank."""
    docstrings: set[int] = set()
    for node in ast.walk(module.tree):
        body = getattr(node, "body", [])
        for statement in body if isinstance(body, list) else []:
            value: Any = getattr(statement, "value", None)
            is_constant = isinstance(statement, ast.Expr) and isinstance(value, ast.Constant)
            if is_constant and isinstance(value.value, str):
                docstrings |= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
    counts: Counter[str] = Counter()
    for number, line in enumerate(module.text.splitlines(), 1):
        if not line.strip():
            counts["blank"] += 1
        elif number in docstrings:
            counts["docstring"] += 1
        elif line.strip().startswith("#"):
            counts["comment"] += 1
        else:
            counts["code"] += 1
            counts["trailing comment"] += number in comments
    return counts


def function_lengths(module: Module) -> list[int]:
    """Return the number of lines of every function and method, without decorators."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    ]


def table(src_modules: Sequence[Module]) -> str:
    """Return the metrics as a Markdown table."""
    by_package: dict[str, list[Module]] = defaultdict(list)
    for module in src_modules:
        by_package[module.package].append(module)
    duplicates = [*duplicate_module_names(src_modules), *duplicate_class_names(src_modules)]
    imported = imported_parts(src_modules)
    circles = [" - ".join(found)] if (found := circle(import_graph(src_modules))) else []
    lines = [
        "| package | modules | lines | median function | longest | code | docstrings | comments "
        "| imports |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            _row(f"`{name}/`", by_package[name], imported[name])
            for name in sorted(by_package)
            if name != "src"
        ),
        _row("`src/*.py`", by_package["src"]),
        _row("all", src_modules),
        "",
        f"Duplicate names: {_listed(duplicates)}. "
        f"Import circles: {_listed(circles)}. "
        f"Backward imports: {_listed(backward_imports(src_modules))}.",
    ]
    return "\n".join(lines)


def _row(name: str, src_modules: Sequence[Module], imported: Sequence[str] = ()) -> str:
    kinds: Counter[str] = sum((line_kinds(module) for module in src_modules), Counter())
    total = sum(kinds[kind] for kind in ("code", "docstring", "comment", "blank"))
    lengths = [length for module in src_modules for length in function_lengths(module)]
    shares = [kinds["code"], kinds["docstring"], kinds["comment"] + kinds["trailing comment"]]
    cells = [
        name,
        str(len(src_modules)),
        f"{total:,}",
        f"{median(lengths):.0f}" if lengths else "",
        str(max(lengths, default="")),
        *(f"{count / max(1, total):.0%}" for count in shares),
        ", ".join(imported),
    ]
    return f"| {' | '.join(cells)} |"


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def main() -> None:
    """Write the table between its markers in the document."""
    replace_section(DOCUMENT, BEGIN, END, table(modules()))
    print(table(modules()))


if __name__ == "__main__":
    main()

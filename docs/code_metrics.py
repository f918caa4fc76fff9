"""Measure the structure of src/, and write it as a table into docs/architecture.md.

`make metrics`. Per room (a folder of src/, or `src` for the modules beside them): modules, lines,
functions with their median and longest length, and the shares of code, docstrings and comments.
For the whole of it: duplicate module and class names, import circles, backward imports.
"""

import ast
import io
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from src.common import files
from src.common.paths import ROOT

DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- metrics: begin -->", "<!-- metrics: end -->"

CHAIN = (
    *("common", "slurm", "faults", "cpu", "config", "cli"),
    *("data", "models", "training", "runs", "report"),
)
"""Rooms in the order in which data flows through them. A room imports from earlier ones alone."""

ENTRY_POINTS = ("src.report.__main__", "src.report.commands")
"""Modules of the chain that are commands: they put rooms together, and may import any."""

NAMED_BY_FRAMEWORKS = ("__init__", "__main__")
ONE_PER_COMMAND = ("commands",)
"""Folders whose modules bear the name of a command that people type."""


@dataclass(frozen=True)
class Module:
    """A Python file of src/."""

    path: Path
    name: str
    """Dotted, without __init__."""
    tree: ast.Module
    text: str

    @property
    def room(self) -> str:
        """The folder of src/ that it is in, or `src`."""
        parts = self.path.relative_to(ROOT).parts
        return parts[1] if len(parts) > 2 else "src"


def modules() -> list[Module]:
    """All of src/, sorted by path."""
    return [read(path) for path in sorted((ROOT / "src").rglob("*.py"))]


def read(path: Path) -> Module:
    """Parse a file of src/."""
    text = path.read_text()
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return Module(path, dotted.removesuffix(".__init__"), ast.parse(text), text)


def imported_names(tree: ast.AST, *, at_import: bool = False) -> list[str]:
    """Dotted names that a module imports: all, or those that are imported when it is.

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
    """Whether a node is a function's body, or only there for type checkers."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def is_backward(module: str, imported: str) -> bool:
    """Whether an import goes against the flow: to a later room, or to one beside the chain."""
    here, there = _room_of(module), _room_of(imported)
    if not imported.startswith("src.") or here not in CHAIN or here == there:
        return False
    if module in ENTRY_POINTS:
        return False
    return there not in CHAIN or CHAIN.index(there) > CHAIN.index(here)


def _room_of(dotted: str) -> str:
    return [*dotted.split("."), ""][1]


def backward_imports(of: Sequence[Module]) -> list[str]:
    """Every import that goes against the flow, as 'module -> imported'."""
    return [
        f"{module.name} -> {name}"
        for module in of
        for name in imported_names(module.tree)
        if is_backward(module.name, name)
    ]


def duplicate_module_names(of: Sequence[Module]) -> list[str]:
    """Names that two modules bear, those of commands and of frameworks aside."""
    counts = Counter(
        module.path.stem
        for module in of
        if module.path.stem not in NAMED_BY_FRAMEWORKS
        and module.path.parent.name not in ONE_PER_COMMAND
    )
    packages = Counter(module.path.parent.name for module in of if module.path.stem == "__init__")
    twice = [name for name, count in (counts + packages).items() if count > 1]
    return sorted(name for name in twice if name not in ONE_PER_COMMAND)


def duplicate_class_names(of: Sequence[Module]) -> list[str]:
    """Names that two classes bear."""
    counts = Counter(
        node.name
        for module in of
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in counts.items() if count > 1)


def import_graph(of: Sequence[Module]) -> dict[str, set[str]]:
    """For each module the modules of src/ that it imports, at any time."""
    known = {module.name for module in of}
    graph: dict[str, set[str]] = {}
    for module in of:
        targets = {_module_in(name, known) for name in imported_names(module.tree)}
        graph[module.name] = {target for target in targets if target and target != module.name}
    return graph


def _module_in(dotted: str, known: set[str]) -> str | None:
    """The module that an imported name is, or is in; a package only if it defines the name."""
    if dotted in known:
        return dotted
    parent = dotted.rpartition(".")[0]
    return parent if parent in known else None


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected, Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def line_kinds(module: Module) -> Counter[str]:
    """How many lines of a module are code, docstring, comment (of its own, or trailing), blank."""
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
    """Lines of every function and method, decorators aside."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    ]


def table(of: Sequence[Module]) -> str:
    """The metrics as Markdown."""
    rooms: dict[str, list[Module]] = defaultdict(list)
    for module in of:
        rooms[module.room].append(module)
    twice = [*duplicate_module_names(of), *duplicate_class_names(of)]
    lines = [
        "| room | modules | lines | median function | longest | code | docstrings | comments |",
        "|---|---|---|---|---|---|---|---|",
        *(
            _row(f"`{room}/`" if room != "src" else "`src/*.py`", rooms[room])
            for room in sorted(rooms)
        ),
        _row("all", of),
        "",
        f"Duplicate names: {_listed(twice)}. "
        f"Import circles: {_listed([' - '.join(group) for group in circles(import_graph(of))])}. "
        f"Backward imports: {_listed(backward_imports(of))}.",
    ]
    return "\n".join(lines)


def _row(name: str, of: Sequence[Module]) -> str:
    kinds: Counter[str] = sum((line_kinds(module) for module in of), Counter())
    total = sum(kinds[kind] for kind in ("code", "docstring", "comment", "blank"))
    lengths = [length for module in of for length in function_lengths(module)]
    shares = [kinds["code"], kinds["docstring"], kinds["comment"] + kinds["trailing comment"]]
    cells = [
        name,
        str(len(of)),
        f"{total:,}",
        f"{median(lengths):.0f}" if lengths else "",
        str(max(lengths, default="")),
        *(f"{count / max(1, total):.0%}" for count in shares),
    ]
    return f"| {' | '.join(cells)} |"


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def main() -> None:
    """Write the table between its marks."""
    text = DOCUMENT.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    files.write_text(DOCUMENT, f"{text[:start]}\n{table(modules())}\n{text[end:]}")
    print(table(modules()))


if __name__ == "__main__":
    main()

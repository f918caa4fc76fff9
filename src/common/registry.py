"""Read the names that files register with a decorator, without importing the files.

`--help` and the checks of a set file need the names of the models, not torch: the names are
read from the source text, and a module is imported when its model is built.
"""

import ast
from functools import cache
from pathlib import Path


@cache
def registered(package: Path) -> dict[str, str]:
    """Map each name in a `@register("name")` of the package's files to the name of its module."""
    names: dict[str, str] = {}
    for path in sorted(package.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            for name in _names(node):
                if name in names:
                    raise ValueError(f"{name} is registered in {names[name]}.py and {path.name}")
                names[name] = path.stem
    return names


def _names(node: ast.stmt) -> list[str]:
    decorators = getattr(node, "decorator_list", [])
    calls = [d for d in decorators if isinstance(d, ast.Call) and ast.unparse(d.func) == "register"]
    return [ast.literal_eval(call.args[0]) for call in calls]

"""Which tasks modules declare, read from their source: nothing is imported, so nothing of them runs.

For completion, which people ask for by a key: it must neither take long nor do anything. What is registered in another
way than `@task` above a function of the module is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["declared_tasks"]

_MOST_FILES = 200
_LARGEST = 1_000_000
"""Bytes of a module: of what is larger nobody wrote tasks by hand."""


def declared_tasks(modules: Sequence[str]) -> list[str]:
    """Return the names of the tasks that modules declare, and those of their own package that they import.

    What cannot be found or read is left out.

    Args:
        modules: as `BARQUE_TASKS` names them.
    """
    found: set[str] = set()
    waiting, seen = list(modules), set(modules)
    while waiting and len(seen) <= _MOST_FILES:
        module = waiting.pop()
        tree, is_package = _source(module)
        found.update(_tasks(tree))
        for other in _imported(tree, module, is_package=is_package):
            if other.partition(".")[0] == module.partition(".")[0] and other not in seen:
                seen.add(other)
                waiting.append(other)
    return sorted(found)


def _source(module: str) -> tuple[ast.Module, bool]:
    nothing = ast.Module([], [])
    try:
        path: Sequence[str] | None = None
        name, spec = "", None
        for part in module.split("."):
            name = f"{name}.{part}" if name else part
            spec = PathFinder.find_spec(name, path)  # unlike importlib.util.find_spec it imports no package on the way
            if spec is None:
                return nothing, False
            path = spec.submodule_search_locations
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return nothing, path is not None
        file = Path(spec.origin)
        if file.stat().st_size > _LARGEST:
            return nothing, path is not None
        return ast.parse(file.read_bytes()), path is not None
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return nothing, False


def _tasks(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "task":
                    yield _title(decorator) or node.name


def _title(decorator: ast.expr) -> str | None:
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            return keyword.value.value
    return None


def _imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    package = module if is_package else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            start = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)  # which may be modules

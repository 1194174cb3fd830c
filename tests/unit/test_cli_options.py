"""The options of the commands, beside each other."""

import ast
from collections import defaultdict
from pathlib import Path

CLI = Path(__file__).parents[2] / "cli"


def test_what_several_commands_take_is_written_once():
    """Else it comes to mean two things: cli/options.py is for it."""
    written = defaultdict(list)
    for file in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"typer.Option", "typer.Argument"}:
                helps = [keyword.value for keyword in node.keywords if keyword.arg == "help"]
                named = ", ".join(map(ast.unparse, [*node.args, *helps]))
                written[named].append(f"{file.name}:{node.lineno}")
    assert len(written) > 100
    assert {named: where for named, where in written.items() if len(where) > 1} == {}

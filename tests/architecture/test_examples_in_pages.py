"""Every Python example of README.md and docs/ stands by itself: it compiles, and what it imports is there.

What the examples do is shown by tests/fundamentals; here it is held that whoever copies one into a file can run it.
"""

import ast
import importlib
import importlib.util

import pytest

from tests.support.page_blocks import blocks

OURS = {"cli", "common", "dashboard", "producer", "workers"}
EXAMPLES = blocks("python")


@pytest.fixture(params=EXAMPLES, ids=[block.place for block in EXAMPLES])
def example(request):
    return compile(request.param.code, request.param.place, "exec", ast.PyCF_ONLY_AST)


def test_the_pages_have_examples():
    assert len(EXAMPLES) > 20


def test_an_example_imports_what_there_is(example):
    missing = []
    for node in ast.walk(example):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.partition(".")[0] in OURS:
            module = importlib.import_module(node.module)
            missing += [f"{node.module}.{name.name}" for name in node.names if not hasattr(module, name.name)]
    assert missing == []


def test_an_example_compiles_as_a_file(example):
    compile(example, "example.py", "exec")


def test_an_example_that_has_a_main_runs_it(example):
    """Else whoever runs the file sees nothing happen, and no error."""
    functions = {node.name for node in example.body if isinstance(node, ast.AsyncFunctionDef)}
    called = {
        node.func.id for node in ast.walk(example) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "main" not in functions or "main" in called


def test_an_example_imports_from_files_that_a_page_shows(example):
    """`from my_tasks import …` is of use where a page says what is in my_tasks.py."""
    shown = {block.file for block in EXAMPLES} | {"django.py"}  # of others; its types are in tests/typing/stubs
    local = {
        node.module if node.module.partition(".")[0] != "django" else "django"
        for node in ast.walk(example)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and importlib.util.find_spec(node.module.partition(".")[0]) is None
    }
    assert [name for name in local if f"{name}.py" not in shown] == []

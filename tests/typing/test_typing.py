"""The types users see: programs/right.py checks; in programs/wrong.py each marked line, and no other, is wrong.

So do the Python examples of README.md and docs/, as whoever copies them into a project with strict types would have it.
"""

import functools
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.page_blocks import ROOT, Block, blocks

PROGRAMS = Path(__file__).parent / "programs"
STUBS = Path(__file__).parent / "stubs"
LOCAL_IMPORT = re.compile(r"^from (\w+) import", re.MULTILINE)


def examples() -> dict[str, str]:
    """Return the Python examples of all pages, by module.

    Where the paragraph before one says `my_tasks.py`, that is what others of its page import from; those of a page that
    shows no such file import from the page that does; of several, as with a program that grows from page to page, from
    the one that shows most of it.
    """
    shown: dict[str, dict[str, str]] = defaultdict(dict)
    for block in sorted(blocks("python"), key=lambda block: -len(block.code)):
        if block.file and block.file.endswith(".py"):
            shown[block.file.removesuffix(".py")].setdefault(block.page, module_of(block))

    def imported(local: re.Match[str], page: str) -> str:
        pages = shown.get(local[1], {})
        return f"from {pages.get(page) or next(iter(pages.values()), local[1])} import"

    return {
        module_of(block): LOCAL_IMPORT.sub(functools.partial(imported, page=block.page), block.code)
        for block in blocks("python")
    }


def module_of(block: Block) -> str:
    return re.sub(r"\W", "_", f"{block.page.removesuffix('.md')}_line_{block.line}")


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, dict[int, set[str]]]:
    """Run mypy once over both programs and all examples; return the codes of its errors by file and line."""
    folder = tmp_path_factory.mktemp("examples")
    for name, code in examples().items():
        (folder / f"{name}.py").write_text(code, "utf-8")
    report = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--show-error-codes",
            "--no-pretty",
            *sorted(map(str, [*PROGRAMS.glob("*.py"), *folder.glob("*.py")])),
        ],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(STUBS)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for line in report.stdout.splitlines():
        place = re.match(r"(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$", line)
        if place is None:
            assert ": note: " in line, f"mypy said: {line}"
            continue
        found[Path(place["file"]).name][int(place["line"])].add(place["code"])
    assert report.stderr == ""
    return found


def marked(name: str) -> dict[int, set[str]]:
    lines = (PROGRAMS / name).read_text("utf-8").splitlines()
    return {n: set(found[1].split()) for n, line in enumerate(lines, 1) if (found := re.search(r"# E: (.+)$", line))}


def test_what_users_write_type_checks_with_the_types_it_should_have(errors):
    assert dict(errors["right.py"]) == {}


def test_the_examples_of_the_pages_type_check(errors):
    assert len(examples()) > 30
    assert {name: dict(lines) for name, lines in errors.items() if name not in {"right.py", "wrong.py"}} == {}


def test_each_mistake_is_seen_where_it_is_made_and_for_its_own_reason(errors):
    expected = marked("wrong.py")
    found = errors["wrong.py"]
    assert sorted(found) == sorted(expected)
    # One mistake may be told by either of two codes, as mypy's versions see fit; it must be one of those named.
    assert {line: codes for line, codes in found.items() if not codes <= expected[line]} == {}


def test_there_are_mistakes_to_see():
    assert len(marked("wrong.py")) > 30

"""Rules of the house that no linter knows: names, sizes, pages that name files, what must not be committed."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("common", "producer", "workers", "cli", "dashboard", "benchmarks", "docs", "examples", "deploy", "tests")
SOURCES = sorted(
    path for room in ("common", "producer", "workers", "cli", "dashboard") for path in (ROOT / room).rglob("*.py")
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

LONGEST_FILE = 440  # "about 400"
LONGER = {}
LONGEST_FUNCTION = 60  # "about 40", without its docstring and signature


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_owns_and_is_not_too_long(path):
    text = path.read_text("utf-8")
    if not text.strip():
        assert path.name == "__init__.py"
        return
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    assert len(text.splitlines()) <= LONGER.get(name_of(path), LONGEST_FILE), "split it along a real seam"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_function_is_too_long(path):
    long = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1
            if lines > LONGEST_FUNCTION:
                long.append(f"{node.name}: {lines} lines")
    assert [entry for entry in long if not entry.startswith("__init__:")] == []


def test_no_file_is_called_by_what_it_is_not():
    vague = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py", "tools.py"}
    assert [name_of(path) for path in tracked() if path.name in vague] == []


def test_nothing_is_left_for_later():
    left = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [name_of(path) for path in SOURCES if left.search(path.read_text("utf-8"))] == []


def named_paths(text: str) -> set[str]:
    """Return what looks like a path of this tree in a page."""
    rooms = "|".join(ROOMS)
    return {found.rstrip(".,:") for found in re.findall(rf"(?<![\w/.-])((?:{rooms})/[\w./*-]*)", text)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_only_files_that_exist(page):
    missing = [name for name in named_paths(page.read_text("utf-8")) if not any(ROOT.glob(name.rstrip("/")))]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_links_only_to_files_that_exist(page):
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_links_only_to_headings_that_exist(page):
    links = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8"))
    lost = []
    for name, anchor in links:
        target = page.parent / name if name else page
        if target.suffix == ".md" and anchor not in headings(target):
            lost.append(f"{name}#{anchor}")
    assert lost == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_names_only_pages_that_exist(path):
    named = re.findall(r"\bdocs/[\w/-]+\.md", path.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_each_once_and_say_their_number():
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    said = [path.read_text("utf-8").splitlines()[0] for path in decisions]
    assert [line for number, line in enumerate(said, 1) if not line.startswith(f"# {number}. ")] == []


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


# Spelled in parts, so that this file passes its own test.
FORBIDDEN = re.compile(
    "|".join(
        [
            "py" + r"pi\.(?:org|python)",
            "python" + "hosted",
            "npm" + r"js\.(?:org|com)",
            "registry" + r"\.\w+\.\w+",
            "index" + "-url",
            "find" + "-links",
            "/wo" + r"rk/\w",
            "/opt/" + r"(?:wheels|py)",
        ]
    )
)


def test_no_tracked_file_names_a_package_host_or_a_path_of_one_machine():
    found = []
    for path in tracked():
        if path.is_file():
            text = path.read_bytes().decode("utf-8", errors="ignore")
            found += [f"{name_of(path)}: {match[0]}" for match in FORBIDDEN.finditer(text)]
    assert found == []

"""README.md and docs/quick_start.md, followed: their files written down, their programs run, their sessions typed.

Commands and programs run in this process, each in a thread, beside a worker with the page's own tasks.
"""

import asyncio
import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys

import pytest

from cli.main import main as barque
from tests.support.page_blocks import Block, blocks
from tests.support.running import run_worker

__all__ = ["run_worker"]

GO_ON = ("barque redis", "barque worker", "barque dashboard", "barque demo")
"""Commands that run until they are stopped."""

IN_A_HURRY = ("exponential(1, maximum=60)", "exponential(0.01)")


def of(page: str, *languages: str) -> list[Block]:
    return [block for block in blocks(*languages) if block.page == page]


def files(page: str) -> dict[str, str]:
    return {block.file: block.code for block in of(page, "python") if block.file}


@pytest.fixture
async def follow(tmp_path, monkeypatch, redis_url, run_worker):
    """`my_tasks = await follow(page)`: its files are there, and a worker runs its tasks."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delitem(sys.modules, "my_tasks", raising=False)

    async def write_down_and_work(page: str) -> None:
        for name, code in files(page).items():
            (tmp_path / name).write_text(code.replace(*IN_A_HURRY), "utf-8")
        my_tasks = importlib.import_module("my_tasks")
        tasks = [value for name, value in vars(my_tasks).items() if name in {"greet", "call"}]
        await run_worker(*tasks, keep_result=60)

    yield write_down_and_work
    sys.modules.pop("my_tasks", None)


def run(line: str) -> str:
    """Run a command as a shell would; return what it printed, on stderr and stdout."""
    program, *arguments = shlex.split(line)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if program == "barque":
            with contextlib.suppress(SystemExit):
                barque(arguments)
        else:
            assert program == "python", line
            runpy.run_path(arguments[0], run_name="__main__")
    return printed.getvalue()


def agrees(shown: str, printed: str) -> bool:
    """Tell whether a page shows what was printed, but for how long ago; `…` on the page stands for anything."""
    shown, printed = (re.sub(r"[\d.]+(?:ms|s) ago", "just now", " ".join(text.split())) for text in (shown, printed))
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed) is not None


def sessions(page: str) -> list[tuple[str, str]]:
    """Return each command of the page's sessions with what it shows below it."""
    text = "".join(block.code for block in of(page, "console"))
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
    return [(line, shown) for line, shown in zip(parts[::2], parts[1::2], strict=True) if not line.startswith(GO_ON)]


@pytest.mark.leaves_keys("arq:*", "barque:*")
async def test_the_sessions_of_the_quick_start_print_what_it_shows(follow):
    await follow("docs/quick_start.md")
    typed = sessions("docs/quick_start.md")
    assert len(typed) == 6
    for line, shown in typed:
        printed = await asyncio.to_thread(run, line)
        assert agrees(shown, printed), f"the page shows of `{line}`:\n{shown}\nand it printed:\n{printed}"


@pytest.mark.leaves_keys("arq:*", "barque:*")
async def test_the_programs_of_the_readme_run(follow, tmp_path, capsys):
    await follow("README.md")
    programs = [
        block.code
        for block in of("README.md", "python")
        if "import Blocking" in block.code or block.file != "my_tasks.py"
    ]
    assert len(programs) == 2
    printed = ""
    for number, code in enumerate(programs):
        (tmp_path / f"program_{number}.py").write_text(code, "utf-8")
        printed += await asyncio.to_thread(run, f"python program_{number}.py")
    assert printed.splitlines() == [
        "Hello, Ada", "['Hello, Grace', 'Hello, Katherine']", "Hello, a", "Hello, b", "Hello, c", "Hello, Ada",
    ]  # fmt: skip

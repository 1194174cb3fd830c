"""workers/lean_imports.py, each in a process of its own: what is imported by then stays imported."""

import subprocess
import sys

import pytest

pytest.importorskip("rich")
pytest.importorskip("greenlet")

HIDE = "from workers.lean_imports import import_structlog; import_structlog(); import sys, structlog.dev\n"


def run(program: str) -> str:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_structlog_comes_without_what_a_worker_has_no_use_for():
    assert run(HIDE + "print({'rich', 'greenlet'} & set(sys.modules), structlog.dev.rich)") == "set() None"


def test_who_imports_them_later_has_them_whole():
    assert run(HIDE + "import rich.console, greenlet; print(greenlet.getcurrent().dead)") == "False"


def test_what_was_imported_before_stays_and_is_used():
    program = "import rich, greenlet; before = rich, greenlet\n" + HIDE
    assert run(program + "print((sys.modules['rich'], sys.modules['greenlet']) == before)") == "True"


def test_nothing_is_left_in_the_way_of_imports():
    assert run("import sys; before = list(sys.meta_path)\n" + HIDE + "print(sys.meta_path == before)") == "True"


def test_another_thread_may_import_them_meanwhile(tmp_path):
    # structlog.dev looks for this one too, and so gives the test a moment in the middle of its import.
    (tmp_path / "better_exceptions.py").write_text(
        "import threading\n"
        "other = threading.Thread(target=__import__, args=['rich.console'])\n"
        "other.start(); other.join()\n"
    )
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + HIDE
    assert (
        run(program + "print('better_exceptions' in sys.modules, hasattr(sys.modules['rich'], 'console'))")
        == "True True"
    )


def test_a_worker_comes_without_what_its_tasks_do_not_use():
    unused = ("pydantic", "pydantic_settings", "tomllib", "difflib", "common.batches", "workers.batch_runs")
    program = "import workers, sys\nassert workers.WorkerSettings.max_jobs == 100\n"
    assert run(program + f"print({{*{unused}}} & set(sys.modules))") == "set()"


def test_a_pydantic_model_travels_and_is_checked_once_somebody_has_one():
    program = (
        "import sys\nfrom common.values import ValueReader, encode\n"
        "assert 'pydantic' not in sys.modules\nencode({1: 2})\n"
        "from pydantic import BaseModel\n"
        "class Page(BaseModel):\n    url: str\n"
        "print(ValueReader(Page).read(encode(Page(url='x')), 'page'))"
    )
    assert run(program) == "url='x'"

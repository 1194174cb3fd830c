"""Who may import whom: the contracts of pyproject.toml, and what import-linter cannot say."""

import ast
import functools
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "producer", "workers", "dashboard", "cli")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@functools.cache
def imported(path: Path) -> set[str]:
    """Return the top-level names a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def importers(package: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in FILES if package in imported(path)}


@pytest.fixture
def loggers_stay_enabled():
    """import-linter sets `logging` up, and thereby disables every logger there is."""
    root = logging.getLogger()
    loggers = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [(logger, logger.disabled) for logger in loggers]
    handlers, level = root.handlers[:], root.level
    yield
    for logger, disabled in before:
        logger.disabled = disabled
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("loggers_stay_enabled")
def test_the_contracts_hold(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_redis_is_imported_in_common_redis_alone():
    assert {path for path in importers("redis") if not path.startswith("common/redis/")} == set()


def test_arq_is_imported_only_where_arq_is_the_point():
    # arq is asked how to read its own command line too; each further file needs a reason here.
    assert importers("arq") <= {
        "common/redis/keys.py", "workers/worker.py", "workers/settings.py", "workers/entry.py", "workers/arq_ways.py",
        "workers/arq_pool.py",
    }  # fmt: skip


def test_fakeredis_and_the_test_tools_are_imported_where_users_tests_are_served_alone():
    for package in ("fakeredis", "hypothesis", "tests", "benchmarks"):
        assert importers(package) == set()
    for package in ("pytest", "pytest_asyncio", "workers.testing"):
        assert {path for path in importers(package) if not path.startswith("workers/testing/")} == set()


@pytest.mark.parametrize("name", ["common/retry.py", "common/jobs.py", "common/errors.py", "workers/executor.py"])
def test_what_does_no_input_or_output_imports_nothing_that_does(name):
    assert not imported(ROOT / name) & {"redis", "socket", "subprocess", "aiohttp", "sqlalchemy", "requests"}


def loaded_by(module: str) -> set[str]:
    """Return every module a fresh Python has loaded after importing this one."""
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(found.stdout.split())


def test_producers_need_no_arq_and_no_worker_at_run_time():
    assert loaded_by("producer") & {"arq", "workers", "aiohttp", "sqlalchemy", "typer"} == set()


def test_importing_a_task_does_not_import_the_engine():
    assert loaded_by("workers.tasks") & {"arq", "workers.engine", "workers.worker"} == set()

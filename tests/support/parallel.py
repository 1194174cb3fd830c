"""How the tests share a machine: hooks for pytest-xdist, which `make test` runs them with.

Owns how many workers `-n auto` means, and that what a test says can be sent. What each worker has of its own (a
server, or a database of a given one) is tests/conftest.py's.
"""

import os
from pathlib import Path

import pytest

__all__ = ["pytest_report_to_serializable", "pytest_xdist_auto_num_workers"]

_MOST = 12
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return half as many workers again as there are cores, for tests wait as long as they compute.

    With one core a second worker would only slow the first down: none, which is one process as without xdist.
    `PYTEST_XDIST_AUTO_NUM_WORKERS` is xdist's own word in the matter, and goes before.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    cores = _cores()
    return min(cores + cores // 2, _MOST) if cores > 1 else 0


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """Escape what UTF-8 has no bytes for: a report that cannot be sent takes its whole worker down.

    Tests log text with lone surrogates on purpose, and pytest puts what was logged into the report.
    """
    return _sendable((yield))


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # a container may have less than its machine
        quota, period = _QUOTA.read_text().split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container of this kind, or one without a limit ("max")
        return cores


def _sendable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_sendable(inner) for inner in value)
    return value

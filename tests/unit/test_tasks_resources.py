"""What the tasks of a worker share is made once, and closed at the end; what ships is registered."""

import subprocess
import sys

import structlog.testing

from common.tasks import registered_tasks
from workers.resources import DATABASE, HTTP, PROCESSES, close_resources, shared


class Opened:
    def __init__(self, closed):
        self.closed = closed

    async def close(self):
        self.closed.append(self)


class Stuck:
    async def close(self):
        raise OSError("s3cret")


def test_a_resource_is_made_once():
    state = {}
    made = shared(state, HTTP, lambda: Opened([]))
    assert shared(state, HTTP, lambda: Opened([])) is made
    assert state == {HTTP: made}


async def test_all_are_closed_once_even_if_one_fails():
    closed = []
    state = {
        HTTP: Stuck(),
        DATABASE: Opened(closed),
        PROCESSES: Opened(closed),
        "the user's own": 1,
    }
    with structlog.testing.capture_logs() as lines:
        await close_resources(state)
        await close_resources(state)
    assert len(closed) == 2
    assert state == {"the user's own": 1}
    assert [(line["event"], line["resource"]) for line in lines] == [("resource_not_closed", HTTP)]
    assert "s3cret" not in str(lines)


async def test_closing_nothing_does_nothing():
    await close_resources({})


def test_importing_the_package_registers_every_task():
    assert {
        "append_file",
        "checksum_file",
        "compress_file",
        "deliver_webhook",
        "download_file",
        "fetch_url",
        "insert_rows",
        "list_files",
        "query_database",
        "read_file",
        "write_file",
    } <= registered_tasks().keys()


def test_importing_the_package_imports_neither_aiohttp_nor_sqlalchemy():
    code = "import sys, workers.tasks; print({'aiohttp', 'sqlalchemy'} & sys.modules.keys())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_arguments_and_results_of_every_task_can_be_read_from_the_wire():
    for task in registered_tasks().values():
        if task.function.__module__.startswith("workers.tasks."):
            assert task.arguments is not None
            assert task.result is not None

"""What ships is registered, is cheap to import, and can be read from the wire."""

import subprocess
import sys

from common.tasks import registered_tasks


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

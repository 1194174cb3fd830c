"""Completion as bash has it: the script that `barque --show-completion` prints, run by a bash; and asking a server."""

import asyncio
import os
import shlex
import shutil
import socket
import sys
from pathlib import Path

import msgspec
import pytest
import typer

from cli import completing
from common import Call, every
from common.worker_reports import RunningAttempt, WorkerReport
from producer import Producer

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash here")


@pytest.fixture
async def complete(tmp_path, monkeypatch):
    """`await complete("jobs", "--queue", "ar", url=…)`: what bash then has in COMPREPLY, and what was on stderr."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "barque").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli "$@"\n')
    (bin_folder / "barque").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")} | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }

    async def bash(program: str, **more: str) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            BASH, "--norc", "-c", program,
            cwd=tmp_path, env=environment | more, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return out.decode(), err.decode()

    script, _ = await bash("barque --show-completion bash")
    assert "complete -o default -F _barque_completion barque" in script

    async def complete(*words: str, url: str) -> tuple[list[str], str]:
        typed = " ".join(shlex.quote(word) for word in ("barque", *words))
        program = (
            f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}\n"
            '_barque_completion barque; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        out, err = await bash(program, BARQUE_REDIS_URL=url)
        return out.split(), err

    return complete


async def test_what_is_in_the_code_follows_and_a_server_that_does_not_answer_is_not_waited_for(complete):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        found = await asyncio.gather(
            complete("sch", url=url),
            complete("jobs", "--queue", "arq", ":", "q", url=url),
            complete("enqueue", "checksum", url=url),
            complete("tail", "--nonsense", "--worker", "", url=url),
        )
    assert found == [(["schedules"], ""), (["queue"], ""), (["checksum_file"], ""), ([], "")]


async def test_names_come_from_the_server(redis_url, redis, keyspace, monkeypatch):
    monkeypatch.setattr(completing, "_ANSWER_WITHIN", 30)
    monkeypatch.setenv("BARQUE_REDIS_URL", redis_url)
    context = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    running = RunningAttempt("a", "crawl", "low", 1, 0)
    report = WorkerReport("web1-7-9fe2", "web1", 7, "0.1.0", ("low", "$(id)"), 100, 0, 0, longest=(running,))
    await redis.zadd("barque:workers", {"web1-7-9fe2": 4e12})
    await redis.set("barque:worker:web1-7-9fe2", msgspec.json.encode(report))
    async with Producer(redis_url) as producer:
        await producer.schedules.add("tidy-eu", Call("tidy"), every(60))

    async def after(names, typed: str) -> list[str]:
        return await asyncio.to_thread(names, context, typed)

    assert await after(completing.worker_names, "web") == ["web1-7-9fe2"]
    assert await after(completing.queue_names, "") == ["arq:queue", "low"]
    assert await after(completing.schedule_names, "t") == ["tidy-eu"]
    assert await after(completing.task_names, "cr") == ["crawl"]
    assert await after(completing.limit_names, "") == []

"""A worker whose server is away when it starts: it waits for it, for a time, and not for one that refuses it."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from structlog.testing import capture_logs

from common.embedded import EmbeddedServer
from common.errors import RedisUnavailable
from common.settings import Settings
from workers import connecting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lines():
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def connect(way: str, port: int, *, patience: float, password: str | None = None) -> ArqRedis:
    """Connect by Barque's settings, or by arq's; `patience` is seconds, or tries."""
    if way == "settings":
        url = f"redis://:{password}@127.0.0.1:{port}/0" if password else f"redis://127.0.0.1:{port}/0"
        return await connecting.by_settings(
            Settings(redis_url=url, start_wait=patience), client_class=ArqRedis, name="test"
        )
    where = RedisSettings("127.0.0.1", port, password=password, conn_retries=round(patience), conn_retry_delay=0.01)
    return await connecting.as_arq(create_pool, where)


def tries(lines) -> list[int]:
    return [line["tries"] for line in lines if line["event"] == "server_not_reached"]


@pytest.mark.parametrize("way", ["settings", "arq"])
async def test_a_server_that_comes_later_is_waited_for(way, port, lines, tmp_path):
    connected = asyncio.create_task(connect(way, port, patience=10_000))
    async with asyncio.timeout(30):
        while len(tries(lines)) < 2:
            await asyncio.sleep(0.005)
        with EmbeddedServer(tmp_path, port=port):
            client = await connected
            assert await client.ping()
            await client.aclose()
    assert tries(lines) == list(range(1, len(tries(lines)) + 1))
    assert lines[-1]["event"] == "server_reached"
    first = lines[0]
    assert "connection refused" in first["error"]
    assert first["again_in_s"] >= 0.01
    assert first["log_level"] == "warning"


@pytest.mark.parametrize(("way", "patience"), [("settings", 0.2), ("arq", 3)])
async def test_one_that_does_not_come_is_given_up(way, patience, port, lines):
    with pytest.raises(RedisUnavailable, match=rf"127\.0\.0\.1:{port}\S*: connection refused"):
        await connect(way, port, patience=patience)
    assert len(tries(lines)) == 3 if way == "arq" else tries(lines)


@pytest.mark.parametrize("way", ["settings", "arq"])
async def test_with_no_patience_it_is_tried_once(way, port, lines):
    with pytest.raises(RedisUnavailable):
        await connect(way, port, patience=0)
    assert lines == []


@pytest.mark.parametrize("way", ["settings", "arq"])
async def test_one_that_refuses_our_password_is_tried_once(way, lines, tmp_path):
    refused = pytest.raises(RedisUnavailable, match="does not accept this user and password")
    with EmbeddedServer(tmp_path, password="right") as server, refused as raised:
        await connect(way, server.port, patience=10_000, password="wrong")
    assert lines == []
    assert "wrong" not in str(raised.value)


class Waiting:
    """A `barque worker` without a server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self, event: str) -> dict[str, object]:
        async with asyncio.timeout(30):
            while line := await self.process.stderr.readline():
                if f'"{event}"'.encode() in line:
                    return json.loads(line)
        raise AssertionError(f"it ended without {event}")

    async def ends(self) -> tuple[int, str]:
        async with asyncio.timeout(30):
            _, rest = await self.process.communicate()
        return self.process.returncode, rest.decode()


@pytest.fixture
async def start(tmp_path, port):
    started = []

    async def start_one(**settings: str) -> Waiting:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
        settings = {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "LOG_FORMAT": "json", **settings}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "worker"),
            cwd=tmp_path,
            env=inherited | {"PYTHONPATH": str(ROOT)} | {f"BARQUE_{name}": value for name, value in settings.items()},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return Waiting(process)

    yield start_one
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_told_to_stop_it_does_so_at_once_and_in_order(start):
    worker = await start(START_WAIT="1h", SHUTDOWN_GRACE="1h")
    await worker.says("server_not_reached")
    worker.process.send_signal(signal.SIGTERM)
    code, rest = await worker.ends()
    assert code == 0
    assert "Traceback" not in rest


async def test_given_up_it_ends_with_the_documented_code_and_one_line(start):
    worker = await start(START_WAIT="100ms")
    await worker.says("server_not_reached")
    code, rest = await worker.ends()
    assert code == 3
    assert [line for line in rest.splitlines() if not line.startswith("{")] == [rest.splitlines()[-1]]
    assert "connection refused" in rest.splitlines()[-1]


async def test_once_it_is_there_the_worker_works(start, port, tmp_path):
    worker = await start(START_WAIT="1h")
    await worker.says("server_not_reached")
    with EmbeddedServer(tmp_path / "server", port=port):
        await worker.says("worker_started")
        worker.process.send_signal(signal.SIGTERM)
        code, _ = await worker.ends()
    assert code == 0

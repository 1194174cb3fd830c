"""A primary with two replicas, and three sentinels that watch them: on loopback, quick to notice.

async with Sentinels(folder, binary) as site:     ready: every sentinel knows the replicas and the others
    site.settings                                 what a client needs to know
    await site.primary()                          the EmbeddedServer that the sentinels call the primary now
    async with site.looking_away():               they call none down meanwhile, and look again afterwards
"""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import redis.asyncio as redis_asyncio

from common.embedded import EmbeddedServer
from common.server_binary import ServerBinary
from common.settings import Settings

__all__ = ["SERVICE", "Sentinels", "info_of"]

SERVICE = "orders"
_QUORUM = 2
_WITHIN = 40.0
_ANSWERS_WITHIN = 10.0
"""Seconds that a server or a sentinel may take to answer; one that is gone refuses at once."""
_HOUR_MS = 3_600_000

# Milliseconds, instead of seconds: how often a sentinel asks, and tells the others. Not PING-PERIOD: once a primary is
# down, a sentinel asks the replicas every second, and promotes none of which it knows nothing newer than five pings.
_QUICKER = ("INFO-PERIOD", 200, "PUBLISH-PERIOD", 200, "ASK-PERIOD", 100)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def info_of(server: EmbeddedServer, section: str = "replication") -> dict:
    """Return what a server says of itself; nothing where it does not answer."""
    client = redis_asyncio.Redis(host="127.0.0.1", port=server.port, socket_timeout=_ANSWERS_WITHIN)
    try:
        return await client.info(section)
    except (redis_asyncio.RedisError, OSError):
        return {}
    finally:
        await client.aclose()


class Sentinels:
    """Three servers and three sentinels."""

    def __init__(self, folder: Path, binary: ServerBinary, *, down_after_ms: int = 700) -> None:
        self._folder = folder
        self._binary = binary
        self._down_after_ms = down_after_ms
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports: list[int] = []
        self.servers: list[EmbeddedServer] = []

    @property
    def settings(self) -> Settings:
        return Settings(
            redis_sentinels=",".join(f"127.0.0.1:{port}" for port in self._ports),
            redis_sentinel_service=SERVICE,
            redis_connect_timeout=5,
        )

    async def __aenter__(self):
        try:
            await asyncio.to_thread(self._start_servers)
            for number in range(3):
                self._start_sentinel(number)
            await self._know_each_other()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_) -> None:
        await asyncio.to_thread(self._end)

    async def address(self) -> int | None:
        """Return the port of what the first sentinel calls the primary."""
        found = await self._ask(0, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(found[1]) if found else None

    async def primary(self) -> EmbeddedServer:
        port = await self.address()
        (server,) = [server for server in self.servers if server.port == port]
        return server

    async def askers(self) -> list[str]:
        """Return the connections over which a sentinel was asked for a primary, as the sentinels list them."""
        lists = [(await self._ask(number, "CLIENT", "LIST")).decode() for number in range(3)]
        return [line for said in lists for line in said.splitlines() if " cmd=sentinel" in line]

    async def failed_over(self, old: EmbeddedServer) -> EmbeddedServer:
        """Return the new primary, once every sentinel says so and it takes writes."""
        try:
            async with asyncio.timeout(_WITHIN):
                while True:
                    ports = {
                        int((await self._ask(n, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) or (0, 0))[1])
                        for n in range(3)
                    }
                    if len(ports) == 1 and ports != {old.port}:
                        new = await self.primary()
                        if (await info_of(new)).get("role") == "master":
                            return new
                    await asyncio.sleep(0.05)
        except TimeoutError:
            said = [(self._folder / f"sentinel{number}" / "log").read_text() for number in range(3)]
            raise AssertionError("no fail-over; the sentinels say:\n" + "\n".join(said)) from None

    @contextlib.asynccontextmanager
    async def looking_away(self) -> AsyncIterator[None]:
        await self._call_down_after(_HOUR_MS)
        yield
        await self._call_down_after(self._down_after_ms)

    async def in_step(self, *, replicas: int = 2) -> None:
        """Return when so many replicas have all that the primary has now; it goes on, with its pings alone."""
        primary = await self.primary()
        reached = (await info_of(primary))["master_repl_offset"]
        async with asyncio.timeout(_WITHIN):
            while True:
                said = await info_of(primary)
                there = [said[f"slave{n}"] for n in range(said.get("connected_slaves", 0))]
                behind = [one for one in there if one["offset"] < reached]
                if len(there) >= replicas and not behind:
                    return
                await asyncio.sleep(0.02)

    def _start_servers(self) -> None:
        common = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        for number in range(3):
            of = {"replicaof": ["127.0.0.1", str(self.servers[0].port)]} if number else {}
            server = EmbeddedServer(self._folder / f"server{number}", binary=self._binary.path, config=common | of)
            server.start()
            self.servers.append(server)

    def _start_sentinel(self, number: int) -> None:
        port = free_port()
        folder = self._folder / f"sentinel{number}"
        folder.mkdir()
        config = folder / "sentinel.conf"  # a sentinel writes to it
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} {_QUORUM}\n"
            f"sentinel down-after-milliseconds {SERVICE} {self._down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
            f"sentinel parallel-syncs {SERVICE} 2\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([self._binary.path, config, "--sentinel"], stdout=log, stderr=log)
        self._processes.append(process)
        self._ports.append(port)

    async def _know_each_other(self) -> None:
        async with asyncio.timeout(_WITHIN):
            for number in range(3):
                while await self._ask(number, "SENTINEL", "DEBUG", *_QUICKER) is None:
                    await asyncio.sleep(0.02)
            for number in range(3):
                while not await self._is_ready(number):
                    await asyncio.sleep(0.05)

    async def _call_down_after(self, milliseconds: int) -> None:
        for number in range(3):
            said = await self._ask(number, "SENTINEL", "SET", SERVICE, "down-after-milliseconds", milliseconds)
            assert said, f"sentinel {number} does not answer"

    async def _is_ready(self, number: int) -> bool:
        client = redis_asyncio.Redis(host="127.0.0.1", port=self._ports[number])
        try:
            said = await client.sentinel_master(SERVICE)
            replicas = await client.sentinel_slaves(SERVICE)
        finally:
            await client.aclose()
        usable = [one for one in replicas if one["master-link-status"] == "ok" and not one["is_sdown"]]
        return said["num-other-sentinels"] == 2 and len(usable) == 2

    async def _ask(self, number: int, *command):
        client = redis_asyncio.Redis(host="127.0.0.1", port=self._ports[number], socket_timeout=_ANSWERS_WITHIN)
        try:
            return await client.execute_command(*command)
        except (redis_asyncio.RedisError, OSError):
            return None
        finally:
            await client.aclose()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for server in self.servers:
            with contextlib.suppress(RuntimeError):
                server.kill()

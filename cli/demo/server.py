"""The demo's HTTP server, a process of its own: serves files late, wrong or not at all, as its plan says.

Owns the serving; what misbehaves and when is `faults`'. Run as `python -m cli.demo.server` by `processes`: the plan
is one line of JSON on standard input, the port one line on standard output. At the end of input it writes what it
answered as a line of JSON and leaves, so that it cannot outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from cli.demo.faults import Fault, ServerPlan

__all__ = ["Answers", "serve"]


class Answers(msgspec.Struct):
    """What the server answered.

    Attributes:
        requests: all of them.
        errors: answered 500.
        busy: answered 429.
        stalled: kept waiting past the timeout.
    """

    requests: int = 0
    errors: int = 0
    busy: int = 0
    stalled: int = 0


class FileHandler:
    """Answers requests for the files of a plan."""

    def __init__(self, plan: ServerPlan) -> None:
        self._plan = plan
        self._folder = Path(plan.folder)
        self._names = frozenset(plan.names)
        self._corrupt = frozenset(plan.corrupt)
        self._requests: Counter[str] = Counter()
        self.answers = Answers()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        name = request.match_info["name"]
        if name not in self._names:
            return web.Response(status=404, text="no such file\n")
        self.answers.requests += 1
        self._requests[name] += 1
        number = self._requests[name]
        await asyncio.sleep(self._plan.delay(name, number))
        fault = self._plan.fault(name, number)
        if fault is Fault.ERROR:
            self.answers.errors += 1
            return web.Response(status=500, text="as planned\n")
        if fault is Fault.BUSY:
            self.answers.busy += 1
            return web.Response(status=429, headers={"Retry-After": "1"}, text="as planned\n")
        if fault is Fault.STALL:
            self.answers.stalled += 1
            await asyncio.sleep(self._plan.stall)
        content = await asyncio.to_thread((self._folder / name).read_bytes)
        if name in self._corrupt:
            content = content[:-1] + b"#" if content[-1:] not in {b"#", b""} else content + b"!"
        return web.Response(body=content, content_type="text/x-python")


async def serve(plan: ServerPlan) -> Answers:
    """Serve on a free port of loopback until standard input ends; write the port to standard output.

    Returns:
        What was answered.
    """
    handler = FileHandler(plan)
    application = web.Application()
    application.router.add_get("/{name:.+}", handler.answer)
    # A client that gives up on a stalled answer ends it.
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address: Any = runner.addresses[0]
        _say(address[1])
        await asyncio.to_thread(sys.stdin.buffer.read)
    finally:
        await runner.cleanup()
    return handler.answers


def _say(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def _main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=ServerPlan)
    _say(asyncio.run(serve(plan)))


if __name__ == "__main__":
    _main()

"""What bounds Barque from below, run bare. Prints one JSON object.

    floor.py asyncio_noop JOBS    the coroutine of `noop`, a hundred at once, under uvloop, no queue
    floor.py asyncio_nap JOBS     the one of `nap`, a thousand at once
    floor.py scripts JOBS         Barque's scripts, called over a plain socket with hiredis alone

Bare asyncio keeps as many asyncio tasks alive as a worker would, each a task of its own; each that ends starts the
next. The scripts are called a hundred jobs at a time: first each by itself, to have its price, then claim and complete
of successive batches in one write, as a worker with a batch always on its way does. Only the time from sending to the
last byte of the reply counts.
"""

import asyncio
import json
import os
import socket
import sys
import time
import uuid
from urllib.parse import urlsplit

import bodies
import hiredis
import uvloop

from common.redis import scripts
from common.redis.store import Enqueue, Finish, HeldLease, Store

_BATCH = 100
_LEASE_MS = 60_000
_QUEUE = "floor:queue"
_PAYLOAD, _RESULT = b"p" * 60, b"r" * 110
"""About the sizes of a job and of a result of `noop`, in bytes."""


async def bare(body, jobs: int, at_once: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    numbers = iter(range(jobs))
    left = jobs

    def start() -> None:
        number = next(numbers, None)
        if number is not None:
            loop.create_task(body(number)).add_done_callback(ended)

    def ended(_task: asyncio.Task) -> None:
        nonlocal left
        left -= 1
        if left:
            start()
        else:
            done.set_result(None)

    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(min(jobs, at_once)):
        start()
    await done
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"jobs_per_s": jobs / seconds, "worker_us": cpu / jobs * 1e6, "jobs": jobs}


class Line:
    """A plain connection that sends packed commands and counts replies; knows how long it waited for them."""

    def __init__(self) -> None:
        where = urlsplit(os.environ["BENCH_REDIS_URL"])
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()
        self.seconds = 0.0

    def call(self, *commands: tuple) -> list:
        packed = b"".join(map(hiredis.pack_command, commands))
        began = time.perf_counter()
        self.socket.sendall(packed)
        replies = []
        while len(replies) < len(commands):
            reply = self.reader.gets()
            if reply is False:
                self.reader.feed(self.socket.recv(1 << 20))
            elif isinstance(reply, hiredis.ReplyError):
                raise reply
            else:
                replies.append(reply)
        self.seconds += time.perf_counter() - began
        return replies

    def cpu(self) -> float:
        text = self.call(("INFO", "cpu"))[0].decode()
        about = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return float(about["used_cpu_sys"]) + float(about["used_cpu_user"])


class Borrowed(Store):
    """The store with its connection taken away: says what it would send, and what it makes of a reply.

    So the scripts are called exactly as Barque calls them, while the time of building and parsing stays out.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._reply = None
        scripts.call = self._stand_in

    def command(self, operation) -> tuple:
        self._reply = None
        try:
            operation.send(None)
        except _Sent as sent:
            return sent.args[0]
        raise AssertionError("the store sent nothing")

    def result(self, operation, reply):
        self._reply = reply
        try:
            operation.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("the store waits for more than one reply")

    async def _stand_in(self, _client, command: tuple):
        if self._reply is None:
            raise _Sent(command)
        return self._reply


class _Sent(BaseException):
    pass


def run_scripts(jobs: int) -> dict[str, float]:
    line, store = Line(), Borrowed()
    for script in (scripts.ENQUEUE, scripts.CLAIM, scripts.COMPLETE):
        line.call(("SCRIPT", "LOAD", script.source))
    figures: dict[str, float] = {"jobs": jobs}

    def timed(name: str, commands: list[tuple]) -> list:
        cpu, line.seconds = line.cpu(), 0.0
        replies = [line.call(command)[0] for command in commands]
        figures[f"{name}_wall_us"] = line.seconds / jobs * 1e6
        figures[f"{name}_redis_us"] = (line.cpu() - cpu) / jobs * 1e6
        return replies

    def enqueues() -> list[tuple]:
        items = [Enqueue(_QUEUE, uuid.uuid4().hex, _PAYLOAD) for _ in range(jobs)]
        return [store.command(store.enqueue(items[at : at + _BATCH])) for at in range(0, jobs, _BATCH)]

    def claim(number: int):
        return store.claim([_QUEUE], most=_BATCH, lease_ms=_LEASE_MS, worker="floor", number=number)

    def complete(number: int, reply) -> tuple:
        taken = store.result(claim(number), reply).jobs
        leases = [HeldLease(job.queue, job.job_id, job.token, job.attempt) for job in taken]
        return store.command(store.complete([_QUEUE], [Finish(lease, _RESULT, 3_600_000) for lease in leases]))

    numbers = range(-(-jobs // _BATCH))
    timed("enqueue", enqueues())
    claimed = timed("claim", [store.command(claim(number)) for number in numbers])
    timed("complete", [complete(number, reply) for number, reply in zip(numbers, claimed, strict=True)])
    for command in enqueues():
        line.call(command)
    cpu, line.seconds = line.cpu(), 0.0
    last = line.call(store.command(claim(0)))[0]
    for number in numbers[1:]:
        last = line.call(complete(number - 1, last), store.command(claim(number)))[1]
    line.call(complete(numbers[-1], last))
    figures["jobs_per_s"] = jobs / line.seconds
    figures["redis_us"] = (line.cpu() - cpu) / jobs * 1e6
    if line.call(("ZCARD", _QUEUE))[0]:
        raise AssertionError(f"jobs are left in {_QUEUE}: not all that was claimed was completed")
    return figures


def main() -> None:
    what, jobs = sys.argv[1], int(sys.argv[2])
    if what == "scripts":
        figures = run_scripts(jobs)
    elif what == "asyncio_noop":
        figures = uvloop.run(bare(bodies.noop, jobs, 100))
    else:
        figures = uvloop.run(bare(bodies.nap, jobs, 1000))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

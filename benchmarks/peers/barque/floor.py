"""What bounds Barque from below, run bare. Prints one JSON object.

    floor.py asyncio_noop JOBS    the coroutine of `noop`, a hundred at once, under uvloop, no queue
    floor.py asyncio_nap JOBS     the one of `nap`, a thousand at once
    floor.py scripts JOBS         Barque's scripts, called over a plain socket with hiredis alone

Bare asyncio keeps as many asyncio tasks alive as a worker would, each a task of its own; each that ends starts the
next. The scripts are called a hundred jobs at a time: first each by itself, to have its price, then claim and complete
of successive batches in one write, as a worker with a batch always on its way does.
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

from common.redis import keys, scripts

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
    """A plain connection that sends packed commands and counts replies."""

    def __init__(self) -> None:
        where = urlsplit(os.environ["BENCH_REDIS_URL"])
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()

    def call(self, *commands: tuple) -> list:
        self.socket.sendall(b"".join(map(hiredis.pack_command, commands)))
        replies = []
        while len(replies) < len(commands):
            reply = self.reader.gets()
            if reply is False:
                self.reader.feed(self.socket.recv(1 << 20))
            elif isinstance(reply, hiredis.ReplyError):
                raise reply
            else:
                replies.append(reply)
        return replies

    def cpu(self) -> float:
        text = self.call(("INFO", "cpu"))[0].decode()
        about = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return float(about["used_cpu_sys"]) + float(about["used_cpu_user"])


def evalsha(script: scripts.Script, *arguments: object) -> tuple:
    return ("EVALSHA", script.sha, 1, _QUEUE, *arguments)


def enqueue(batch: list[str]) -> tuple:
    return evalsha(scripts.ENQUEUE, len(batch), *(word for job_id in batch for word in (job_id, _PAYLOAD)))


def claim(number: int) -> tuple:
    return evalsha(scripts.CLAIM, _BATCH, _LEASE_MS, "floor", number)


def complete(claimed: list, number: int) -> tuple:
    arguments: list[object] = []
    for at in range(3, len(claimed), 6):
        job_id, attempt = claimed[at], claimed[at + 2]
        token = f"floor:{attempt}:{number}"
        arguments += ("finish", 0, job_id, token, attempt, 3_600_000, _RESULT, 0)
    return evalsha(scripts.COMPLETE, *arguments)


def run_scripts(jobs: int) -> dict[str, float]:
    line = Line()
    for script in (scripts.ENQUEUE, scripts.CLAIM, scripts.COMPLETE):
        line.call(("SCRIPT", "LOAD", script.source))
    figures: dict[str, float] = {"jobs": jobs}

    def timed(name: str, commands) -> list:
        cpu, began = line.cpu(), time.perf_counter()
        replies = [line.call(command)[0] for command in commands]
        figures[f"{name}_wall_us"] = (time.perf_counter() - began) / jobs * 1e6
        figures[f"{name}_redis_us"] = (line.cpu() - cpu) / jobs * 1e6
        return replies

    def batches() -> list[list[str]]:
        ids = [uuid.uuid4().hex for _ in range(jobs)]
        return [ids[start : start + _BATCH] for start in range(0, jobs, _BATCH)]

    timed("enqueue", map(enqueue, batches()))
    claims = range(-(-jobs // _BATCH))
    claimed = timed("claim", map(claim, claims))
    timed("complete", map(complete, claimed, claims))
    for batch in batches():
        line.call(enqueue(batch))
    cpu, own, began = line.cpu(), time.process_time(), time.perf_counter()
    last = line.call(claim(0))[0]
    for number in claims[1:]:
        last = line.call(complete(last, number - 1), claim(number))[1]
    line.call(complete(last, len(claims) - 1))
    seconds, own = time.perf_counter() - began, time.process_time() - own
    figures["jobs_per_s"] = jobs / seconds
    figures["client_us"] = own / jobs * 1e6
    figures["redis_us"] = (line.cpu() - cpu) / jobs * 1e6
    if line.call(("ZCARD", _QUEUE))[0]:
        raise AssertionError(f"jobs are left in {_QUEUE}: the scripts are not called as the store calls them")
    line.call(("DEL", _QUEUE, keys.wake(_QUEUE)))
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

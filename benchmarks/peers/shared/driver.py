"""The enqueuing side of every Python peer: does what the harness says, line by line, and says how long it took.

Owns the commands; how a peer enqueues is its client.py's. One JSON object a line on standard input, one answer a
line on standard output; driver.mjs and driver.rb speak the same.

    {"do": "bulk", "task": "noop", "jobs": 10000}                          -> {"seconds": …}
    {"do": "single", "task": "noop", "jobs": 5000, "in_flight": 32}        -> {"seconds": …}
    {"do": "paced", "jobs": 150, "rate": 50}                               -> {"seconds": …}, tasks `stamp`
    {"do": "round_trip", "jobs": 100, "pause": 0.02, "most_seconds": 10}   -> {"latencies_ns": […]}
    {"do": "schedule", "task": "noop", "jobs": 10000, "delay": 86400}      -> {"seconds": …}, Barque only

A client whose methods are coroutine functions keeps calls in flight by asyncio; one whose methods are plain
functions, by threads.
"""

import asyncio
import importlib
import inspect
import itertools
import json
import sys
import threading
import time


async def main() -> None:
    client = importlib.import_module("client").Client()
    await _call(client.open)
    _say({"ready": True})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = await _COMMANDS[command.pop("do")](client, **command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answer)
    await _call(client.close)


async def _bulk(client, task: str, jobs: int):
    numbers = list(range(jobs))
    began = time.perf_counter()
    await _call(client.enqueue_many, task, numbers)
    return {"seconds": time.perf_counter() - began}


async def _single(client, task: str, jobs: int, in_flight: int):
    numbers = itertools.count()  # next() of it is one step for threads too
    began = time.perf_counter()
    if inspect.iscoroutinefunction(client.enqueue):

        async def keep_on() -> None:
            while (number := next(numbers)) < jobs:
                await client.enqueue(task, number)

        await asyncio.gather(*(keep_on() for _ in range(in_flight)))
    else:

        def keep_on_blocking() -> None:
            while (number := next(numbers)) < jobs:
                client.enqueue(task, number)

        threads = [threading.Thread(target=keep_on_blocking) for _ in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {"seconds": time.perf_counter() - began}


async def _paced(client, jobs: int, rate: float):
    began = time.perf_counter()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        await _call(client.enqueue, "stamp", time.monotonic_ns())
    return {"seconds": time.perf_counter() - began}


async def _round_trip(client, jobs: int, pause: float, most_seconds: float):
    latencies = []
    deadline = time.monotonic() + most_seconds
    for number in range(jobs):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(pause)
        began = time.monotonic_ns()
        if hasattr(client, "round_trip"):  # a peer with one call for both
            value = await _call(client.round_trip, "noop", number)
        else:
            value = await _call(client.result, await _call(client.enqueue, "noop", number))
        latencies.append(time.monotonic_ns() - began)
        if value != number:
            raise AssertionError(f"the result of job {number} is {value!r}")
    return {"latencies_ns": latencies}


async def _schedule(client, task: str, jobs: int, delay: float):
    began = time.perf_counter()
    await client.schedule_many(task, list(range(jobs)), delay)
    return {"seconds": time.perf_counter() - began}


_COMMANDS = {"bulk": _bulk, "single": _single, "paced": _paced, "round_trip": _round_trip, "schedule": _schedule}


async def _call(function, *arguments):
    answer = function(*arguments)
    return await answer if inspect.isawaitable(answer) else answer


def _say(answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())

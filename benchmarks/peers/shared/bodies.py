"""The bodies of the tasks, one text for all Python peers; each peer's app.py only registers them.

`noop` does nothing, `nap` waits 10 ms, `stamp` notes how long its job was on the way. The `blocking_` ones are for
peers that run jobs in threads or greenlets.
"""

import asyncio
import time

from counting import begin, end, picked_up

NAP = 0.010
"""Seconds."""


async def noop(number: int) -> int:
    begin()
    end()
    return number


async def nap(number: int) -> int:
    begin()
    await asyncio.sleep(NAP)
    end()
    return number


async def stamp(sent_ns: int) -> None:
    picked_up(sent_ns)
    begin()
    end()


def blocking_noop(number: int) -> int:
    begin()
    end()
    return number


def blocking_nap(number: int) -> int:
    begin()
    time.sleep(NAP)
    end()
    return number


def blocking_stamp(sent_ns: int) -> None:
    picked_up(sent_ns)
    begin()
    end()

"""Many default workers in one process, with nothing to do: `idle.py NUMBER`.

Each is a whole worker with connections, lease thread and reports of its own, made as `arq workers.WorkerSettings`
makes one; they share an interpreter only because a hundred of those would not fit a small machine.
"""

import asyncio
import sys

import uvloop

from common import load_settings
from workers.settings import worker_options
from workers.worker import Worker


async def main(number: int) -> None:
    options = worker_options(load_settings())
    await asyncio.gather(*(Worker(**options, handle_signals=False).async_run() for _ in range(number)))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

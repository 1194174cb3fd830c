"""Say whether this container's own worker lives: exit 0 if it reported within the last 15 s, else 1.

Docker's HEALTHCHECK. `arq --check` asks whether *any* worker of the queue lives, which beside healthy
neighbours is true of a dead one too. A worker reports from its event loop, so one that hangs is found.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from common.errors import BarqueError
from common.redis.connection import UNAVAILABLE, open_client
from common.redis.inspect import Inspector
from common.settings import load_settings


async def main() -> str | None:
    """Return what is wrong, or None."""
    host = os.uname().nodename
    try:
        client: Any = await open_client(load_settings(), name="health")
        try:
            workers = await Inspector(client).workers()
        finally:
            await client.aclose()
    except BarqueError as error:
        return str(error)
    except UNAVAILABLE as error:
        return f"{type(error).__name__}: {error}"
    if any(worker.host == host for worker in workers):
        return None
    return f"no worker on {host} has reported within 15 s; {len(workers)} on other hosts have"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

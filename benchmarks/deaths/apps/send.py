"""Enqueue one job with the peer whose module is named: `python send.py saq_app`."""

import asyncio
import importlib
import inspect
import sys

sent = importlib.import_module(sys.argv[1]).send()
if inspect.isawaitable(sent):

    async def wait():
        await sent

    asyncio.run(wait())

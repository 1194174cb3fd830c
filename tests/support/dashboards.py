"""A dashboard for tests: asked in this process, or served on a port of its own by a thread.

async with dashboard(redis_url, read_only=True) as client:     an httpx client, for paths: client.get("/api/v1/queues")
with served(redis_url, token=TOKEN) as url:                    uvicorn on loopback, for what speaks real HTTP
"""

import contextlib
import socket
import threading

import httpx
import uvicorn

from common.settings import Settings
from dashboard.app import create_app
from dashboard.settings import DashboardSettings

__all__ = ["dashboard", "served"]


@contextlib.asynccontextmanager
async def dashboard(redis_url: str, **rules):
    app = create_app(Settings(redis_url=redis_url), DashboardSettings(**rules))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 5))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client,
    ):
        yield client


@contextlib.contextmanager
def served(redis_url: str, **rules):
    app = create_app(Settings(redis_url=redis_url), DashboardSettings(**rules))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="on"))
    listening = socket.create_server(("127.0.0.1", 0))  # it queues who comes before uvicorn has started
    serving = threading.Thread(target=server.run, args=([listening],))
    serving.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        serving.join()
        listening.close()

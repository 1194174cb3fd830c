"""`WorkerSettings`: what `arq workers.WorkerSettings` and `barque worker` start.

Owns the translation of Barque's settings to the options of `Worker`. arq's command line reads only the class's own
`__dict__` and keeps the names that `Worker` takes, so every option stands on the class itself.
"""

from __future__ import annotations

from typing import Any

from arq.connections import RedisSettings

from common.errors import ConfigurationError
from common.middleware import import_middleware
from common.redis.address import connection_options, sentinels
from common.resources import registered_resources
from common.settings import Settings, settings_for_process
from common.tasks import Task, import_tasks

__all__ = ["WorkerSettings", "redis_settings", "worker_options"]


def worker_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a `Worker` that these settings ask for.

    Raises:
        ConfigurationError: a module of `BARQUE_TASKS` cannot be imported, two tasks have one name, or there is none;
            or what `BARQUE_MIDDLEWARE` names is not there.
    """
    tasks: list[Task[Any, Any]] = list(import_tasks(settings.tasks).values())
    middleware = import_middleware(settings.middleware)  # before its resources are looked for: it may declare some
    if not tasks:
        raise ConfigurationError(_no_task(settings.tasks))
    return {
        "functions": tasks,
        "middleware": middleware,
        "lifespans": registered_resources(),
        "settings": settings,
        "queues": settings.queues,
        "queue_name": settings.queues[0],
        "redis_settings": redis_settings(settings),
        "max_jobs": settings.concurrency,
        "job_timeout": settings.job_timeout,
        "max_tries": settings.max_attempts,
        "keep_result": settings.keep_result,
        "poll_delay": settings.poll_delay,
        "lease": settings.lease,
        "job_completion_wait": settings.shutdown_grace,
        "allow_abort_jobs": True,
        "health_check_interval": 10,
    }


def _no_task(modules: tuple[str, ...]) -> str:
    if not modules:
        return "BARQUE_TASKS: name at least one module with tasks in it, such as my_app.tasks"
    have = "has" if len(modules) == 1 else "have"
    return f"BARQUE_TASKS: {', '.join(modules)} {have} no @task; decorate a function with @task"


def redis_settings(settings: Settings) -> RedisSettings:
    """Return the connection in arq's words, for `arq --check`; the worker itself connects by `settings`."""
    options = connection_options(settings)
    nodes = sentinels(settings)
    tls = "ssl_cert_reqs" in options
    return RedisSettings(
        host=list(nodes.nodes) if nodes else options.get("host", "localhost"),
        port=options.get("port", 6379),
        unix_socket_path=options.get("path"),
        database=options["db"],
        username=options["username"],
        password=options["password"],
        ssl=tls,
        ssl_keyfile=options.get("ssl_keyfile"),
        ssl_certfile=options.get("ssl_certfile"),
        ssl_cert_reqs=options.get("ssl_cert_reqs", "required"),
        ssl_ca_certs=options.get("ssl_ca_certs"),
        ssl_check_hostname=options.get("ssl_check_hostname", False),
        conn_timeout=round(settings.redis_connect_timeout) or 1,
        sentinel=nodes is not None,
        sentinel_master=nodes.service if nodes else "mymaster",
    )


WorkerSettings = type(
    "WorkerSettings",
    (),
    {"__doc__": "A worker as the environment describes it.", **worker_options(settings_for_process())},
)

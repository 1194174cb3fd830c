"""How the workers of this host are: asked of their pages, or looked up in Redis.

Owns whom `barque health` asks, and how an answer, or none, is read. What "well" means is workers/wellbeing.py's.
Imports little, and a Redis client only where Redis is asked: a container's probe runs every few seconds.
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.settings import Settings

__all__ = ["Found", "Known", "probe"]

_PORT = re.compile(r"[1-9][0-9]{0,3}|[1-5][0-9]{4}", re.ASCII)
"""A port, as most have it; what else there may be the settings know, and say what is wrong with it."""

_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one worker process.

    Attributes:
        name: its id, or where it was asked.
        reasons: why it is not ready, in words.
        parent: the pid of the process that has started it: a supervisor's, where it is one of several.
    """

    name: str
    alive: bool
    reasons: dict[str, str] = field(default_factory=dict)
    pid: int | None = None
    parent: int | None = None

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""
        return self.alive and not self.reasons

    def line(self) -> str:
        """Return it as a line for people."""
        words = "alive, ready" if self.ready else "alive, not ready" if self.alive else "not alive"
        return f"{self.name}: {words}" + "".join(f"\n  {reason}: {why}" for reason, why in self.reasons.items())

    def document(self) -> dict[str, Any]:
        """Return it for a JSON document."""
        return {
            "worker": self.name,
            "pid": self.pid,
            "alive": self.alive,
            "ready": self.ready,
            "reasons": self.reasons,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a probe.

    Attributes:
        workers: those that were found.
        trouble: why there are none, or not all, in words.
        unknown: whether nothing was learnt of any worker, through no fault of a worker's: Redis is away.
    """

    workers: list[Known] = field(default_factory=list)
    trouble: str = ""
    unknown: bool = False

    def is_well(self, *, ready: bool, at_least: int) -> bool:
        """Tell whether there are so many, and all of them are alive, or ready.

        Where Redis cannot be asked, all are taken to be alive: a restart would not help.
        """
        if self.unknown:
            return not ready
        if len(self.workers) < at_least:
            return False
        return all(worker.ready if ready else worker.alive for worker in self.workers)

    def document(self, *, well: bool, asked: str) -> dict[str, Any]:
        """Return it as a JSON document."""
        workers = [worker.document() for worker in self.workers]
        return {"well": well, "asked": asked, "workers": workers, "error": self.trouble or None}


def probe(*, pid: int | None, seconds: float, port: str | None = None, redis_url: str | None = None) -> Found:
    """Return how the workers of this host are.

    Args:
        pid: of one process alone; None is of all.
        seconds: what an answer may take.
        port, redis_url: instead of the settings of these names.
    """
    given = os.environ.get("BARQUE_METRICS_PORT", "") if port is None else port
    if _PORT.fullmatch(given):
        # The usual case: importing the settings takes longer than all the rest.
        return _ask_pages(range(int(given), int(given) + 1), os.environ.get("BARQUE_METRICS_HOST", ""), pid, seconds)
    from common.errors import ConfigurationError  # noqa: PLC0415 - see above
    from common.settings import load_settings  # noqa: PLC0415

    try:
        settings = load_settings(redis_url=redis_url, metrics_port=port)
    except ConfigurationError as error:
        return Found(trouble=str(error))
    found_ports = settings.metrics_ports
    if found_ports is not None and found_ports[0] > 0:
        return _ask_pages(found_ports, settings.metrics_host, pid, seconds)
    return _ask_redis(settings, pid, seconds)


def _ask_pages(ports: range, host: str, pid: int | None, seconds: float) -> Found:
    where = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where to ask
    found: dict[int, list[Known] | str] = {}
    asking = [threading.Thread(target=_ask_page, args=(where, port, seconds, found), daemon=True) for port in ports]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    answers = [found[port] for port in ports]
    workers = [known for answer in answers if not isinstance(answer, str) for known in answer]
    if pid is not None:  # of one that gave no answer it is not known whose it is: that of nobody else, most likely
        meant = [known for known in workers if pid in {known.pid, known.parent}]
        workers = meant or [known for known in workers if known.pid is None]
    if workers:
        return Found(workers)
    shown = f"{where}:{ports[0]}" if len(ports) == 1 else f"{where}:{ports[0]}-{ports[-1]}"
    whose = "" if pid is None else f" of process {pid}"
    why = next((answer for answer in answers if isinstance(answer, str) and answer), "nobody listens there")
    return Found(trouble=f"no worker{whose} answers at {shown}: {why}")


def _ask_page(host: str, port: int, seconds: float, found: dict[int, list[Known] | str]) -> None:
    """Put what a page says under its port; text where that is no worker's, "" where nobody listens."""
    import http.client  # noqa: PLC0415 - not for who asks Redis

    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = json.loads(answer.read(_MOST_BYTES))
        found[port] = _who_answered(said)
    except TimeoutError:
        # Its page answers from a thread of its own: the whole process stands still.
        why = f"it listens, and gave no answer within {seconds:g} s"
        found[port] = [Known(f"{host}:{port}", alive=False, reasons={"no_answer": why})]
    except ConnectionRefusedError:
        found[port] = ""
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        found[port] = f"what answers at {port} is no worker's page, or of another version ({type(error).__name__})"
    finally:
        connection.close()


def _who_answered(said: dict[str, Any]) -> list[Known]:
    """Return the worker whose page this is, or all whose page it is where one looks after several."""
    pid = int(said["pid"])
    processes = said.get("processes")
    if not said["alive"] or not processes:
        return [Known(str(said["worker"]), bool(said["alive"]), _texts(said["reasons"]), pid)]
    return [
        Known(str(one["worker"]), bool(one["alive"]), _texts(one["reasons"]), one["pid"] or 0, pid) for one in processes
    ]


def _texts(reasons: dict[str, Any]) -> dict[str, str]:
    return {str(reason): str(why) for reason, why in reasons.items()}


def _ask_redis(settings: Settings, pid: int | None, seconds: float) -> Found:
    import asyncio  # noqa: PLC0415 - not for who asks a page

    from common.errors import BarqueError  # noqa: PLC0415 - likewise
    from common.redis.connection import TROUBLE, describe, open_client  # noqa: PLC0415
    from common.redis.inspect import Inspector, WorkerReport  # noqa: PLC0415
    from common.redis.reasons import reason  # noqa: PLC0415

    async def look() -> list[WorkerReport]:
        client: Any = await open_client(settings, name="health")
        try:
            return await Inspector(client).workers()
        finally:
            await client.aclose()

    async def ask() -> list[WorkerReport]:
        async with asyncio.timeout(seconds):
            return await look()

    try:
        reports = asyncio.run(ask())
    except BarqueError as error:
        return _not_known(str(error))
    except TROUBLE as error:
        why = f"gave no answer within {seconds:g} s" if isinstance(error, TimeoutError) else reason(error)[0]
        return _not_known(f"Redis at {describe(settings)}: {why}")
    host = os.uname().nodename
    here = [report for report in reports if report.host == host]
    workers = [
        Known(report.worker, alive=True, reasons=_texts(report.reasons), pid=report.pid, parent=report.parent)
        for report in here
        if pid in {None, report.pid, report.parent}
    ]
    if workers:
        return Found(workers)
    whose = "worker" if pid is None else f"worker process {pid}"
    others = len(reports) - len(here)
    return Found(trouble=f"no {whose} on {host} has reported within 15 s; {others} on other hosts have")


def _not_known(why: str) -> Found:
    return Found(trouble=f"{why}. How the workers are is not known; a restart of theirs would not help", unknown=True)

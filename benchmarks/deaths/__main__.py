"""Kill the only worker of each peer in the middle of a job, have another one there, and see when the job begins again.

    python -m benchmarks.deaths                     # all peers, for a quarter of an hour
    python -m benchmarks.deaths --peers arq,saq --minutes 6

All peers wait side by side, each in a database of one server; nobody has anything else to do. Each runs as its own
documentation starts it, with its own defaults, but for those whose name says otherwise. The first worker is killed
with all that it has started (SIGKILL of its process group) a second after its job began; the second one has been
there for five seconds by then. What is printed is the time from the kill to the job's second start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import ENVIRONMENTS, ROOT
from benchmarks.server import Server

_APPS = Path(__file__).parent / "apps"
_STARTS_WITHIN = 60.0
_SIDE_BY_SIDE = 5.0
_INTO_THE_JOB = 1.0


@dataclass(frozen=True)
class Peer:
    """A peer and its programs.

    Attributes:
        title: what it is called in the table.
        environment: its folder under benchmarks/.envs/; "" where the system brings it; none for Barque, which runs
            from here.
        worker: its worker's command, the program being looked for in the environment.
        module: what send.py imports to enqueue; or the command that enqueues, for other languages.
    """

    title: str
    environment: str | None
    worker: list[str]
    module: str | list[str]


_PEERS = {
    "barque": Peer("Barque", None, ["barque", "worker", "--tasks", "barque_app"], "barque_app"),
    "arq": Peer("arq", "arq", ["arq", "arq_app.WorkerSettings"], "arq_app"),
    "celery": Peer("Celery", "celery", ["celery", "-A", "celery_app", "worker", "--concurrency", "1"], "celery_app"),
    "celery_late": Peer(
        "Celery, acks_late=True",
        "celery",
        ["celery", "-A", "celery_late_app", "worker", "--concurrency", "1"],
        "celery_late_app",
    ),
    "rq": Peer("RQ", "rq", ["rq", "worker", "--url", "{url}"], "rq_app"),
    "rq_retry": Peer("RQ, Retry(max=3)", "rq", ["rq", "worker", "--url", "{url}"], "rq_retry_app"),
    "dramatiq": Peer(
        "Dramatiq", "dramatiq", ["dramatiq", "dramatiq_app", "--processes", "1", "--threads", "1"], "dramatiq_app"
    ),
    "saq": Peer("SAQ", "saq", ["saq", "saq_app.settings"], "saq_app"),
    "saq_retries": Peer("SAQ, retries=3", "saq", ["saq", "saq_retries_app.settings"], "saq_retries_app"),
    "taskiq": Peer(
        "taskiq, RedisStreamBroker", "taskiq", ["taskiq", "worker", "taskiq_app:broker", "--workers", "1"], "taskiq_app"
    ),
    "streaq": Peer("streaq", "streaq", ["streaq", "run", "streaq_app:worker"], "streaq_app"),
    "docket": Peer("docket", "docket", ["python", "docket_app.py"], "docket_app"),
    "bullmq": Peer("BullMQ", "bullmq", ["node", "bullmq_app.mjs"], ["node", "bullmq_app.mjs", "send"]),
    "sidekiq": Peer(
        "Sidekiq (open source)",
        "",
        ["sidekiq", "-r", "./sidekiq_app.rb", "-c", "1"],
        ["ruby", "sidekiq_app.rb", "send"],
    ),
}


class _NoSuchStart(Exception):
    pass


def _program(peer: Peer, name: str) -> str:
    folder = Path(sys.executable).parent if peer.environment is None else ENVIRONMENTS / peer.environment / "bin"
    return str(folder / name) if (folder / name).exists() else name


def _is_installed(peer: Peer) -> bool:
    if peer.environment == "":
        return shutil.which(peer.worker[0]) is not None
    return peer.environment is None or (ENVIRONMENTS / peer.environment).exists()


def _folder(peer: Peer, into: Path) -> Path:
    """Copy the programs into a folder of the peer's own, where Node finds its packages."""
    shutil.copytree(_APPS, into, ignore=shutil.ignore_patterns("__pycache__"))
    if peer.environment and (packages := ENVIRONMENTS / peer.environment / "node_modules").exists():
        (into / "node_modules").symlink_to(packages)
    return into


def _variables(folder: Path, url: str) -> dict[str, str]:
    return os.environ | {
        "DEATHS_REDIS_URL": url,
        "DEATHS_LOG": str(folder / "starts"),
        "BARQUE_REDIS_URL": url,
        "PYTHONPATH": f"{folder}:{ROOT}",
    }


@contextmanager
def _worker(peer: Peer, folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    program, *arguments = (word.replace("{url}", url) for word in peer.worker)
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [_program(peer, program), *arguments],
            cwd=folder,
            env=_variables(folder, url),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _send(peer: Peer, folder: Path, url: str) -> None:
    command = ["python", "send.py", peer.module] if isinstance(peer.module, str) else peer.module
    subprocess.run(
        [_program(peer, command[0]), *command[1:]],
        cwd=folder,
        env=_variables(folder, url),
        check=True,
        capture_output=True,
        timeout=60,
    )


def _start(folder: Path, number: int, within: float) -> float:
    """Return when the job began for the given time, waiting for that."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        log = folder / "starts"
        starts = log.read_text().splitlines() if log.exists() else []
        if len(starts) >= number:
            return float(starts[number - 1])
        time.sleep(0.02)
    raise _NoSuchStart


def _ask(peer: Peer, folder: Path, url: str, patience: float) -> str:
    """Kill a worker of the peer's and return, in words, what became of its job."""
    if not _is_installed(peer):
        return "not installed here: `make bench` installs what it can, and says what is missing"
    folder = _folder(peer, folder)
    with ExitStack() as stack:
        first = stack.enter_context(_worker(peer, folder, url))
        try:
            _send(peer, folder, url)
            _start(folder, 1, _STARTS_WITHIN)
        except _NoSuchStart:
            return "the job never began; the worker's last words: " + (folder / "worker.log").read_text()[-500:]
        except subprocess.CalledProcessError as error:
            return "the job could not be enqueued: " + error.stderr.decode()[-500:]
        stack.enter_context(_worker(peer, folder, url))
        time.sleep(_SIDE_BY_SIDE + _INTO_THE_JOB)
        _kill(first)
        killed = time.monotonic()
        try:
            return f"{_start(folder, 2, patience) - killed:.1f} s"
        except _NoSuchStart:
            return f"not within {patience / 60:.0f} minutes"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deaths", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help=f"some of {','.join(_PEERS)}")
    parser.add_argument("--minutes", type=float, default=15, help="how long a second start is waited for")
    options = parser.parse_args()
    chosen = options.peers.split(",") if options.peers else list(_PEERS)
    if unknown := sorted(set(chosen) - set(_PEERS)):
        parser.error(f"there is no peer {', '.join(unknown)}; there are {', '.join(_PEERS)}")
    with (
        Server() as server,
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(len(chosen)) as pool,
    ):
        base = server.url.rpartition("/")[0]
        answers = {
            name: pool.submit(_ask, _PEERS[name], Path(folder) / name, f"{base}/{number}", options.minutes * 60)
            for number, name in enumerate(chosen)
        }
        for name, answer in answers.items():
            print(f"| {_PEERS[name].title} | {answer.result()} |", flush=True)


if __name__ == "__main__":
    main()

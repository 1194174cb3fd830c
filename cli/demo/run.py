"""The demo from start to end: start everything, fetch, store, stop everything, check, report.

Owns the order of events. That each thing it starts is also ended, on errors and on Ctrl-C too, is the exit stack's
doing: what was started last ends first.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.demo.attempts import Journal
from cli.demo.faults import plan_server
from cli.demo.items import Item, hash_files, library_files, library_folder, read_urls
from cli.demo.processes import Child, FileServer, ProcessDied, Workers
from cli.demo.progress import Counts, View
from cli.demo.report import Paths, Report, WorkerFigures, write_report
from cli.demo.server import Answers
from cli.demo.verify import read_rows, verify
from cli.demo.work import Work, erase
from common.embedded import EmbeddedServer
from common.errors import ConfigurationError, RedisUnavailable
from common.jobs import new_job_id
from common.redis.connection import describe
from common.secret import Secret
from common.server_binary import find_server
from common.settings import Settings

__all__ = ["Options", "run_demo"]

_SECONDS_TO_START = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person may ask of the demo.

    Attributes:
        output: the folder in which each run makes one of its own.
        files: how many library files to fetch; None fetches all.
        urls: a list of URLs to fetch instead.
        workers: processes.
        concurrency: jobs at once in each.
        timeout: seconds an attempt has.
        seed: decides which files fail and how.
        corrupt: how many files the server is to serve wrong, to see that the check finds them.
        embedded: start a server, instead of using the one that the settings name.
    """

    output: Path
    files: int | None
    urls: Path | None
    workers: int
    concurrency: int
    timeout: float
    seed: int
    corrupt: int
    embedded: bool


@dataclass(frozen=True, slots=True)
class _Source:
    """What is fetched, in words and in full, and the server it comes from where that is ours."""

    what: str
    items: list[Item]
    server: FileServer | None = None


class _Demo:
    """One run."""

    def __init__(self, options: Options, view: View, folder: Path, stack: contextlib.ExitStack) -> None:
        self._options = options
        self._view = view
        self._stack = stack
        self._folder = folder
        self._started_at = datetime.now(tz=UTC).isoformat(timespec="seconds")
        self._logs = folder / "logs"
        self._database = folder / "fetched.sqlite3"

    def run(self, given: Settings, source: _Source) -> Report:
        """Start Redis and the workers, do the work, stop them, and report."""
        options, view = self._options, self._view
        settings, redis = self._find_redis(given)
        view.say(f"Redis:     {redis}")
        view.say(f"Workers:   {options.workers} x arq workers.WorkerSettings, {options.concurrency} jobs at once each")
        view.say(f"Output:    {self._folder}")
        work = Work(
            settings, settings.queues[0], source.items, window=options.workers * options.concurrency * 3 // 2 + 1
        )
        if not options.embedded:
            self._stack.callback(self._clean_up, settings, work)  # runs once the workers have ended, however they did
        workers = self._stack.enter_context(Workers(options.workers, settings, folder=self._folder, logs=self._logs))
        journal = Journal(workers.logs)
        children: list[Child] = [workers, *([source.server] if source.server is not None else [])]
        self._wait_until_ready(journal, children)
        view.start()
        try:
            asyncio.run(work.run(_look(journal, children), view))
            exit_codes = workers.stop()
            answers = source.server.stop() if source.server is not None else None
            _read(journal, work.counts)
            view.stop(work.counts)
        except KeyboardInterrupt:
            view.stop()
            view.say("Interrupted: ending the workers and servers. What was stored and logged stays.")
            raise
        finally:
            view.stop()
        figures = [
            WorkerFigures(number, pid, journal.tally.by_worker[number], code)
            for number, (pid, code) in enumerate(zip(workers.pids, exit_codes, strict=True), start=1)
        ]
        return self._report(source, redis, work, journal, figures, answers)

    def serve_library(self) -> _Source:
        """Start the HTTP server, and return the files it serves with what they must be."""
        options = self._options
        folder = library_folder()
        names = library_files(folder, options.files)
        hashed = hash_files(folder, names)
        plan = plan_server(str(folder), names, seed=options.seed, timeout=options.timeout, corrupt=options.corrupt)
        server = self._stack.enter_context(FileServer(plan, self._logs / "http-server.err"))
        items = [Item(name, f"{server.url}/{quote(name)}", name, *hashed[name]) for name in names]
        size = sum(item.size or 0 for item in items) / 1_000_000
        what = f"{len(items):,} sources of Python {platform.python_version()}'s standard library ({size:.1f} MB)"
        self._view.say(f"Fetching:  {what}")
        self._view.say(f"From:      {server.url}, with delays, 500s, 429s and stalls")
        return _Source(what, items, server)

    def _find_redis(self, given: Settings) -> tuple[Settings, str]:
        """Return the settings of the run, and its Redis in words; starts one if that is asked for."""
        options = self._options
        common: dict[str, Any] = {
            "queues": (f"barque:demo:{new_job_id()}",),  # nobody else's jobs are touched
            "tasks": ("workers.tasks", "cli.demo.tasks"),
            "concurrency": options.concurrency,
            "job_timeout": options.timeout,
            "shutdown_grace": 1.0,
            "log_format": "json",
            "data_root": self._folder / "data",
            # Relative to the workers' folder: in a URL no path needs escaping that is not there.
            "database_url": Secret(f"sqlite+aiosqlite:///{self._database.name}"),
            "http_allow_private": given.http_allow_private if options.urls is not None else True,
        }
        if options.urls is not None:
            common |= {"http_max_bytes": given.http_max_bytes, "http_timeout": given.http_timeout}
        if not options.embedded:
            ours = {name: getattr(given, name) for name in given.given if name.startswith("redis_")}
            # Settings.of: the environment has had its say, in `given`, and must not have it again.
            return Settings.of(common | ours), describe(given)
        server = self._stack.enter_context(EmbeddedServer())
        binary = find_server()
        version = ".".join(map(str, binary.version))
        return (
            Settings.of(common | {"redis_url": server.url}),
            f"an embedded {binary.kind} {version} on port {server.port}",
        )

    def _clean_up(self, settings: Settings, work: Work) -> None:
        queue = settings.queues[0]
        try:
            asyncio.run(erase(settings, queue, work.job_ids))
        except RedisUnavailable as error:  # what came before is the news, and must not be hidden by this
            self._view.say(f"Not cleaned up: the queue {queue} and its jobs may still be on the server. {error}")

    def _wait_until_ready(self, journal: Journal, children: Sequence[Child]) -> None:
        deadline = time.monotonic() + _SECONDS_TO_START
        while len(journal.started) < self._options.workers:
            for child in children:
                child.check()
            journal.read()
            if time.monotonic() > deadline:
                raise ProcessDied(
                    f"only {len(journal.started)} of {self._options.workers} workers came up within "
                    f"{_SECONDS_TO_START:g} s; see {self._logs}"
                )
            time.sleep(0.02)

    def _report(
        self,
        source: _Source,
        redis: str,
        work: Work,
        journal: Journal,
        workers: list[WorkerFigures],
        answers: Answers | None,
    ) -> Report:
        tasks = journal.tally.figures()
        rows = read_rows(self._database)
        report = Report(
            started_at=self._started_at,
            what=source.what,
            redis=redis,
            concurrency=self._options.concurrency,
            items=len(source.items),
            checked=sum(item.sha256 is not None for item in source.items),
            bytes=sum(row.size for row in rows),
            wall_seconds=round(work.seconds, 3),
            run_seconds=round(sum(figures.run_seconds for figures in tasks), 3),
            tasks=tasks,
            workers=workers,
            answers=answers,
            failures=work.failures,
            verdict=verify(source.items, rows, work.failed),
            unreadable_lines=journal.unreadable,
            paths=Paths(
                report=str(self._folder / "report.md"),
                report_json=str(self._folder / "report.json"),
                database=str(self._database),
                logs=str(self._logs),
            ),
        )
        write_report(report)
        return report


def _look(journal: Journal, children: Sequence[Child]) -> Callable[[Counts], None]:
    """Return what brings counts up to date from the logs, and raises when a child process has died."""

    def look(counts: Counts) -> None:
        for child in children:
            child.check()
        _read(journal, counts)

    return look


def _read(journal: Journal, counts: Counts) -> None:
    journal.read()
    counts.retries, counts.timeouts = journal.tally.retries, journal.tally.timeouts
    counts.by_worker = journal.tally.by_worker


def run_demo(options: Options, given: Settings, view: View) -> Report:
    """Run the demo and return its report, which is written to the output folder too.

    Args:
        options: what was asked for.
        given: the person's own settings: which server, and what HTTP tasks may reach.
        view: shows how it goes.

    Raises:
        ConfigurationError: the output folder or the list of URLs cannot be used.
        NoServerBinary: there is no server to embed.
        RedisUnavailable: the server cannot be reached, or was lost.
        ProcessDied: a child process ended by itself.
    """
    listed = read_urls(options.urls) if options.urls is not None else None  # before a folder is made for nothing
    with contextlib.ExitStack() as stack:
        demo = _Demo(options, view, _make_folder(options.output), stack)
        if listed is None:
            return demo.run(given, demo.serve_library())
        repeated = f", lines that repeat one left out: {listed.repeated:,}" if listed.repeated else ""
        what = f"{len(listed.items):,} URLs of {options.urls}{repeated}"
        view.say(f"Fetching:  {what}")
        return demo.run(given, _Source(what, listed.items))


def _make_folder(output: Path) -> Path:
    """Make a fresh folder for a run: what an earlier one wrote is never overwritten."""
    stamp = datetime.now(tz=UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in (stamp, *(f"{stamp}-{number}" for number in range(2, 100))):
            folder = output.absolute() / name
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                (folder / "logs").mkdir()
                return folder
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from None
    raise ConfigurationError(f"--output {output}: a hundred runs began there in this second")

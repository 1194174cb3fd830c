"""The database engines that the tasks of one worker share: one, with its pool, for each URL.

Owns how an engine is made, how SQLite is set up, and which database failures may pass by themselves. Writes
no SQL of a task. SQLAlchemy takes a third of a second to import, so `database.py` imports this module only
when a query is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common.context import Context
from common.errors import ConfigurationError
from common.resources import lifespan
from common.settings import settings_for_process
from workers.tasks.database_errors import DatabaseError, DatabaseUnavailable, StatementRefused

__all__ = ["Engines", "engine_for", "engines", "errors_explained", "interruptible"]

T = TypeVar("T")

_VARIABLE = "BARQUE_DATABASE_URL"
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
_SQLITE_BUSY_MS = 10_000
_LONGEST_VALUE = 256 * 1024 * 1024
"""Bytes of one text or blob: `zeroblob(n)` makes as many as it is asked for."""
_PRAGMAS_OURS = {"journal_mode": "wal", "synchronous": "normal", "foreign_keys": "on", "query_only": "on off"}
# They change nothing of the connection; the last two are numbers in the file, which only a write may change.
_PRAGMAS_TO_ASK = frozenset(
    {
        "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
        "foreign_key_check", "integrity_check", "quick_check", "user_version", "application_id",
    }
)  # fmt: skip
_PRAGMAS_TO_READ = frozenset(
    {
        "busy_timeout", "collation_list", "compile_options", "data_version", "encoding", "foreign_keys",
        "freelist_count", "function_list", "journal_mode", "module_list", "page_count", "page_size", "pragma_list",
        "query_only", "read_uncommitted", "schema_version", "synchronous",
    }
)  # fmt: skip
# Primary result codes that say nothing against the statement: busy, locked, out of memory, interrupted,
# I/O error, disk full, cannot open.
_SQLITE_PASSING = frozenset({5, 6, 7, 9, 10, 13, 14})
# Classes of SQLSTATE: connection, transaction rolled back (serialization, deadlock), resources, intervention.
_SQLSTATE_PASSING = ("08", "40", "53", "55P03", "57P")


class Engines:
    """The engines of one worker, by URL."""

    def __init__(self) -> None:
        self._engines: dict[URL, AsyncEngine] = {}

    def get(self, url: URL) -> AsyncEngine:
        """Return the engine for a URL, made on first use; it connects only when asked to."""
        engine = self._engines.get(url)
        if engine is None:
            engine = self._engines[url] = _make(url)
        return engine

    async def close(self) -> None:
        """Close every connection of every engine."""
        while self._engines:
            _, engine = self._engines.popitem()
            await engine.dispose()


@lifespan(lazy=True)
async def engines() -> AsyncIterator[Engines]:
    """Make what holds the worker's engines, on its first use."""
    made = Engines()
    try:
        yield made
    finally:
        await made.close()


async def engine_for(ctx: Context, database: str | None) -> AsyncEngine:
    """Return the worker's engine for a database.

    Args:
        ctx: the task's own context; the engines are the worker's, shared by its tasks.
        database: `reports` reads the environment variable `BARQUE_DATABASE_URL_REPORTS`, so that no password
            travels in a job, and no job can open a database nobody meant it to. None takes
            `BARQUE_DATABASE_URL`.

    Raises:
        ConfigurationError: the variable is not set, is no URL, or the driver is not installed.
    """
    if database is None:
        variable = _VARIABLE
        text = settings_for_process().database_url.get_secret_value()
    else:
        if not database.isascii() or not database.replace("_", "").isalnum():
            raise ConfigurationError(f"database {database!r}: a name has letters, digits and underscores")
        variable = f"{_VARIABLE}_{database.upper()}"
        text = os.environ.get(variable, "")
    if not text:
        raise ConfigurationError(f"no database to talk to: set {variable} to an SQLAlchemy URL")
    of_worker = await ctx.open(engines)
    try:
        url = make_url(text)
        return of_worker.get(url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)))
    except ModuleNotFoundError as error:
        extra = " Install the extra: pip install 'barque[postgres]'" if error.name == "asyncpg" else ""
        raise ConfigurationError(f"{variable}: its driver {error.name!r} is not installed.{extra}") from None
    except (ArgumentError, NoSuchModuleError):
        # Without the text: it holds the password.
        raise ConfigurationError(
            f"{variable} is no URL that SQLAlchemy knows; give sqlite:///path or postgresql://user@host/name"
        ) from None


@contextlib.contextmanager
def errors_explained() -> Iterator[None]:
    """Raise the failures of SQLAlchemy and its drivers as ours, without the statement and its values.

    Raises:
        StatementRefused: the database would refuse the same statement again.
        DatabaseUnavailable: it may pass: no connection, a lock, a deadlock, a full disk.
    """
    try:
        yield
    except DBAPIError as error:
        raise _explained(error, error.orig, lost=error.connection_invalidated) from None
    except PoolTimeout:
        raise DatabaseUnavailable("all connections of the pool are in use") from None
    except StatementError as error:
        raise StatementRefused(f"{type(error).__name__}: {error.orig or error.args[0]}") from None
    except (SQLAlchemyError, OverflowError) as error:
        raise StatementRefused(f"{type(error).__name__}: {error}") from None
    except OSError as error:  # asyncpg's, before there is a connection
        raise DatabaseUnavailable(f"no connection: {error.strerror or type(error).__name__}") from None
    except Exception as error:
        # While rows are streamed, asyncpg's own errors pass through SQLAlchemy as they are.
        if not type(error).__module__.startswith("asyncpg."):
            raise
        raise _explained(error, error, lost=False) from None


def _make(url: URL) -> AsyncEngine:
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(url, connect_args={"factory": _Confined}, **options)
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        return engine
    return create_async_engine(url, pool_recycle=1800, **options)


async def interruptible(connection: AsyncConnection, work: Coroutine[Any, Any, T]) -> T:
    """Run what uses this connection; when the job is cancelled, end the statement that is under way, too.

    SQLite runs a statement in a thread, which cancelling does not reach: one without an end would keep the thread, a
    core and the attempt for ever. The driver of PostgreSQL cancels on the server by itself.
    """
    if connection.dialect.name != "sqlite":
        return await work
    raw: Any = (await connection.get_raw_connection()).driver_connection
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():  # one that is only about to begin is not reached by the first
            await raw.interrupt()
            await asyncio.wait({running}, timeout=0.02)
        running.cancelled() or running.exception()  # looked at, so that it is not reported as forgotten
        raise


class _Confined(sqlite3.Connection):
    """A connection to its own file alone, whose settings no statement of a job can change for the jobs after it.

    ATTACH and VACUUM INTO take any path; a PRAGMA outlives the job that set it, in the pool or in the file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        self.set_authorizer(_authorize)


def _authorize(action: int, name: str | None, value: str | None, *_: str | None) -> int:
    """Say whether a statement may be prepared; SQLite asks for each thing it does."""
    if action != sqlite3.SQLITE_PRAGMA:
        return sqlite3.SQLITE_OK
    pragma = (name or "").lower()
    if pragma in _PRAGMAS_TO_ASK or (value is None and pragma in _PRAGMAS_TO_READ):
        return sqlite3.SQLITE_OK
    ours = {"busy_timeout": str(_SQLITE_BUSY_MS), **_PRAGMAS_OURS}
    fits = value is not None and value.lower() in ours.get(pragma, "").split()
    return sqlite3.SQLITE_OK if fits else sqlite3.SQLITE_DENY


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # The wait comes first: two workers that start together both want to switch the journal.
    cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the one writer do not block each other
    cursor.execute("PRAGMA synchronous = NORMAL")  # safe from corruption under WAL, and much faster
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _explained(error: Exception, cause: BaseException | None, *, lost: bool) -> DatabaseError:
    if _quotes_a_value(cause):
        return StatementRefused(f"{type(error).__name__}: a value does not fit where it is to go")
    # PostgreSQL adds lines that quote the row; the first names the constraint, and is enough.
    # SQLAlchemy puts the class before what asyncpg said, as `<class '…'>: `.
    reason = (str(cause).splitlines() or [""])[0]
    message = f"{type(error).__name__}: {reason.rpartition('>: ')[2] or reason}"
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
        message += "; tasks change no PRAGMA, and read those that tell of tables, indexes and keys"
    return DatabaseUnavailable(message) if lost or _may_pass(cause) else StatementRefused(message)


def _quotes_a_value(cause: BaseException | None) -> bool:
    """Whether this is PostgreSQL's class of data exceptions, whose first line quotes the value."""
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return isinstance(state, str) and state.startswith("22")


def _may_pass(cause: BaseException | None) -> bool:
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF in _SQLITE_PASSING  # extended codes keep the primary one in the low byte
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if isinstance(state, str):
        return state.startswith(_SQLSTATE_PASSING)
    return isinstance(cause, OSError)

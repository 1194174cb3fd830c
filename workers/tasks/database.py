"""Tasks on a database: query it, insert rows in bulk.

SQLite by default, PostgreSQL with the extra `barque[postgres]`, both through SQLAlchemy's async engine. Values
only ever travel as bound parameters; table and column names are checked and quoted. One pooled engine per
URL and worker (`database_engines.py`). Owns the two tasks and the statements they make.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from common import Context, RetryPolicy, task
from workers.tasks.database_errors import NOT_RETRIED, InvalidRows, StatementRefused, TooManyRows

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

__all__ = ["Inserted", "insert_rows", "query_database"]

Row = dict[str, Any]

MOST_ROWS = 100_000
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")  # 63 characters is PostgreSQL's limit
_DIALECTS_WITH_UPSERT = ("sqlite", "postgresql")


class Inserted(msgspec.Struct, frozen=True, kw_only=True):
    """What `insert_rows` did.

    Attributes:
        given: the rows in the call.
        inserted: those that are new; the others were there already and `on_conflict` left them alone.
    """

    given: int
    inserted: int


@task(retry=RetryPolicy(fail_on=NOT_RETRIED))
async def query_database(
    ctx: Context,
    sql: str,
    parameters: dict[str, Any] | None = None,
    *,
    database: str | None = None,
    limit: int = 1000,
    write: bool = False,
) -> list[Row]:
    """Run one SQL statement and return its rows.

    Reads only, unless `write` is set: the database itself refuses a change otherwise. Jobs run at least once,
    so a statement that writes must be one that may run twice.

    Args:
        sql: with values as named parameters: `SELECT * FROM users WHERE id = :id`.
        parameters: their values; never put a value into the SQL yourself.
        database: `reports` reads `BARQUE_DATABASE_URL_REPORTS`; None reads `BARQUE_DATABASE_URL`.
        limit: rows the statement may have, 1 to 100,000; results travel through Redis.
        write: let the statement change data, and commit it.

    Returns:
        One dict a row, by column name; no rows for a statement that has none.

    Raises:
        TooManyRows: there are more than `limit`; nothing is written. Not retried.
        StatementRefused: syntax, a constraint, a missing table or parameter. Not retried.
        DatabaseUnavailable: no connection, a lock, a deadlock, a full disk. Retried.
        ConfigurationError: no such database is configured, or its driver is missing. Not retried.
    """
    from sqlalchemy import text  # noqa: PLC0415 - SQLAlchemy is slow to import

    from workers.tasks.database_engines import engine_for, errors_explained, interruptible  # noqa: PLC0415

    if not 1 <= limit <= MOST_ROWS:
        raise InvalidRows(f"limit={limit}: give 1 to {MOST_ROWS}")
    if not sql.strip():
        raise StatementRefused("the statement is empty")
    engine = await engine_for(ctx, database)
    values = {name: _bindable(value, engine.dialect.name) for name, value in (parameters or {}).items()}
    with errors_explained():
        async with engine.connect() as connection:
            # Also before a write: the statement before it on this connection may have been a PRAGMA of the same name.
            await _read_only(connection, on=not write)
            if write:
                async with connection.begin():
                    return await interruptible(connection, _rows(connection, text(sql), values, limit))
            try:
                return await interruptible(connection, _rows(connection, text(sql), values, limit))
            finally:
                await connection.rollback()
                await _read_only(connection, on=False)


@task(retry=RetryPolicy(fail_on=NOT_RETRIED))
async def insert_rows(
    ctx: Context,
    table: str,
    rows: list[Row],
    *,
    database: str | None = None,
    on_conflict: Literal["error", "ignore"] = "error",
) -> Inserted:
    """Insert rows in bulk, all of them or, if anything fails, none.

    Jobs run at least once: with `on_conflict="ignore"` and a unique key in the table, a second run
    inserts nothing twice.

    Args:
        table: its name, or `schema.table`; exactly as the database spells it.
        rows: 1 to 100,000 dicts by column name, all with the same columns. A dict or list as a value
            is written as JSON text; for SQLite, dates are written as ISO 8601.
        database: `reports` reads `BARQUE_DATABASE_URL_REPORTS`; None reads `BARQUE_DATABASE_URL`.
        on_conflict: what a row that breaks a unique key does: "error" fails the call, "ignore" leaves
            the row out.

    Raises:
        InvalidRows: a name is no identifier, or rows differ in their columns. Not retried.
        StatementRefused: a constraint, a missing table or column. Not retried.
        DatabaseUnavailable: no connection, a lock, a deadlock, a full disk. Retried.
        ConfigurationError: no such database is configured, or its driver is missing. Not retried.
    """
    from workers.tasks.database_engines import engine_for, errors_explained  # noqa: PLC0415 - slow to import

    if not rows:
        return Inserted(given=0, inserted=0)
    columns = _common_columns(rows)
    engine = await engine_for(ctx, database)
    dialect = engine.dialect.name
    statement = _insert_statement(table, columns, dialect, on_conflict)
    values = [{name: _bindable(value, dialect) for name, value in row.items()} for row in rows]
    with errors_explained():
        async with engine.begin() as connection:
            result = await connection.execute(statement, values)
            return Inserted(given=len(rows), inserted=len(result.all()))


async def _rows(connection: AsyncConnection, statement: Any, values: Row, limit: int) -> list[Row]:
    from sqlalchemy.exc import ResourceClosedError  # noqa: PLC0415 - slow to import

    async with connection.stream(statement, values) as result:
        try:
            names = list(result.keys())
        except ResourceClosedError:  # a statement that has no rows to give
            return []
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise StatementRefused(f"two columns are called {twice!r}; give one another name with AS")
        found = await result.fetchmany(limit + 1)
    if len(found) > limit:
        raise TooManyRows(f"the query has more than {limit} rows; narrow it, or raise limit=")
    return [dict(zip(names, row, strict=True)) for row in found]


async def _read_only(connection: AsyncConnection, *, on: bool) -> None:
    """Have the database refuse changes on this connection, or no longer."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if on else 'OFF'}")
        await connection.rollback()
    elif on and connection.dialect.name == "postgresql":
        # Ends with the connection's return to the pool.
        await connection.execution_options(postgresql_readonly=True)


def _insert_statement(
    table: str, columns: Sequence[str], dialect: str, on_conflict: Literal["error", "ignore"]
) -> ReturningInsert[Any]:
    from sqlalchemy import column, insert, literal_column  # noqa: PLC0415 - slow to import
    from sqlalchemy import table as make_table  # noqa: PLC0415
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415
    from sqlalchemy.sql import quoted_name  # noqa: PLC0415

    *schema, name = (_identifier("table", part, table) for part in table.split("."))
    if len(schema) > 1:
        raise InvalidRows(f"table {table!r}: give table, or schema.table")
    target = make_table(
        quoted_name(name, quote=True),
        *(column(quoted_name(_identifier("column", item, item), quote=True)) for item in columns),
        schema=quoted_name(schema[0], quote=True) if schema else None,
    )
    # RETURNING counts the new rows on every database alike, and lets SQLAlchemy send many rows a statement.
    one: ColumnElement[Any] = literal_column("1")
    if on_conflict == "error":
        return insert(target).returning(one)
    if dialect not in _DIALECTS_WITH_UPSERT:
        raise InvalidRows(f'on_conflict="ignore" is for SQLite and PostgreSQL, not {dialect}')
    make = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return make(target).on_conflict_do_nothing().returning(one)


def _common_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(rows) > MOST_ROWS:
        raise InvalidRows(f"{len(rows)} rows; one call inserts {MOST_ROWS} at most")
    columns = list(rows[0])
    if not columns:
        raise InvalidRows("row 0 has no columns")
    expected = set(columns)
    for index, row in enumerate(rows):
        if row.keys() != expected:
            differing = ", ".join(repr(name) for name in sorted(row.keys() ^ expected))
            raise InvalidRows(f"row {index} and row 0 differ in their columns: {differing}")
    return columns


def _identifier(what: str, name: str, whole: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise InvalidRows(
            f"{what} {whole!r}: a name has letters, digits and underscores, and does not start with a digit"
        )
    return name


def _bindable(value: Any, dialect: str) -> Any:
    """Return a value that the driver can bind."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if dialect == "sqlite" and isinstance(value, dt.date | dt.time):
        return value.isoformat()  # Python's own conversion is deprecated; a datetime is a date too
    return value

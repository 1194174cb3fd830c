"""Database tasks on real SQLite files; PostgreSQL where `BARQUE_TEST_POSTGRES_URL` names one."""

import asyncio
import datetime as dt
import os
import sqlite3
import sys
import threading

import pytest

from common import Context
from common.errors import ConfigurationError
from common.open_resources import keeper_of
from workers.tasks import database_engines, insert_rows, query_database
from workers.tasks.database_errors import DatabaseUnavailable, InvalidRows, StatementRefused, TooManyRows

POSTGRES = os.environ.get("BARQUE_TEST_POSTGRES_URL", "")


@pytest.fixture
async def ctx():
    context = Context(job_id="j1")
    yield context
    await keeper_of(context.state).close()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql",
            marks=pytest.mark.skipif(not POSTGRES, reason="BARQUE_TEST_POSTGRES_URL names no database"),
        ),
    ]
)
async def users(request, tmp_path, monkeypatch, ctx):
    """A database with an empty table `users`; the value is the backend's name."""
    url = f"sqlite:///{tmp_path}/db/test.sqlite3" if request.param == "sqlite" else POSTGRES
    monkeypatch.setenv("BARQUE_DATABASE_URL", url)
    await query_database.function(ctx, "DROP TABLE IF EXISTS users", write=True)
    await query_database.function(
        ctx, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, extra TEXT)", write=True
    )
    yield request.param
    await query_database.function(ctx, "DROP TABLE users", write=True)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """An SQLite file that nobody has opened yet."""
    monkeypatch.setenv("BARQUE_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/test.sqlite3")
    return tmp_path / "test.sqlite3"


def people(count, start=0):
    return [{"id": n, "name": f"name {n}", "extra": None} for n in range(start, start + count)]


async def count(ctx):
    return (await query_database.function(ctx, "SELECT count(*) AS n FROM users"))[0]["n"]


# --- queries


async def test_rows_are_plain_dicts(ctx, users):
    await insert_rows.function(ctx, "users", people(3))
    rows = await query_database.function(ctx, "SELECT id, name FROM users WHERE id >= :least ORDER BY id", {"least": 1})
    assert rows == [{"id": 1, "name": "name 1"}, {"id": 2, "name": "name 2"}]
    assert [type(row) for row in rows] == [dict, dict]


async def test_a_value_is_never_sql(ctx, users):
    await insert_rows.function(ctx, "users", people(3))
    for evil in ("x' OR '1'='1", "x'; DROP TABLE users; --"):
        assert await query_database.function(ctx, "SELECT * FROM users WHERE name = :n", {"n": evil}) == []
    assert await count(ctx) == 3


async def test_more_rows_than_allowed(ctx, users):
    await insert_rows.function(ctx, "users", people(11))
    assert len(await query_database.function(ctx, "SELECT * FROM users", limit=11)) == 11
    with pytest.raises(TooManyRows, match="more than 10 rows") as caught:
        await query_database.function(ctx, "SELECT * FROM users", limit=10)
    assert not query_database.options.retry.retries(caught.value)
    for limit in (0, 100_001):
        with pytest.raises(InvalidRows, match="give 1 to 100000"):
            await query_database.function(ctx, "SELECT 1", limit=limit)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO users (id, name) VALUES (1, 'a')",
        "INSERT INTO users (id, name) VALUES (1, 'a') RETURNING id",
        "DELETE FROM users",
        "DROP TABLE users",
        "CREATE TABLE others (id INTEGER)",
    ],
)
async def test_a_query_only_reads(ctx, users, sql):
    await insert_rows.function(ctx, "users", people(2, start=10))
    with pytest.raises(StatementRefused, match=r"read-?only"):
        await query_database.function(ctx, sql)
    assert await count(ctx) == 2
    # The same connection, back from the pool, may write again.
    await insert_rows.function(ctx, "users", people(2, start=20))
    assert await count(ctx) == 4


async def test_a_write_is_committed(ctx, users):
    await insert_rows.function(ctx, "users", people(2))
    assert await query_database.function(ctx, "UPDATE users SET name = :n", {"n": "same"}, write=True) == []
    returned = await query_database.function(ctx, "DELETE FROM users WHERE id = 1 RETURNING id, name", write=True)
    assert returned == [{"id": 1, "name": "same"}]
    await keeper_of(ctx.state).close()
    assert await count(ctx) == 1


async def test_a_write_with_too_many_rows_is_undone(ctx, users):
    await insert_rows.function(ctx, "users", people(3))
    with pytest.raises(TooManyRows):
        await query_database.function(ctx, "DELETE FROM users RETURNING id", limit=2, write=True)
    assert await count(ctx) == 3


async def test_two_columns_of_one_name(ctx, users):
    with pytest.raises(StatementRefused, match="'id'; give one another name"):
        await query_database.function(ctx, "SELECT a.id, b.id FROM users a, users b")


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELEKT 1", {}),
        ("SELECT * FROM nowhere", {}),
        ("SELECT :missing", {}),
        ("SELECT 1; SELECT 2", {}),
        ("", {}),
    ],
)
async def test_statements_the_database_refuses(ctx, users, sql, parameters):
    for write in (False, True):
        with pytest.raises(StatementRefused) as caught:
            await query_database.function(ctx, sql, parameters, write=write)
        assert not query_database.options.retry.retries(caught.value)
    assert await count(ctx) == 0  # the connection is none the worse


async def test_no_value_is_shown_in_an_error(ctx, users):
    row = {"id": 1, "name": "s3cret", "extra": "s3cret"}
    await insert_rows.function(ctx, "users", [row])
    with pytest.raises(StatementRefused) as first:
        await insert_rows.function(ctx, "users", [row])
    with pytest.raises(StatementRefused) as second:
        await query_database.function(ctx, "SELECT * FROM nowhere WHERE a = :a", {"a": "s3cret"})
    with pytest.raises(StatementRefused) as third:
        await query_database.function(ctx, "SELECT :missing, :a", {"a": "s3cret"})
    for caught in (first, second, third):
        assert "s3cret" not in str(caught.value)
        assert caught.value.__suppress_context__


async def test_sql_opens_no_other_file(ctx, file, tmp_path):
    await query_database.function(ctx, "CREATE TABLE t (a INTEGER)", write=True)
    for sql in (f"ATTACH DATABASE '{tmp_path}/other' AS other", f"VACUUM INTO '{tmp_path}/other'"):
        for write in (False, True):
            with pytest.raises(StatementRefused):
                await query_database.function(ctx, sql, write=write)
    assert not (tmp_path / "other").exists()


SETTINGS = [
    "foreign_keys = OFF",
    "ignore_check_constraints = ON",
    "writable_schema = ON",
    "busy_timeout = 0",
    "journal_mode = DELETE",
    "synchronous(off)",
    "recursive_triggers = ON",
    "case_sensitive_like = ON",
    "temp_store_directory = '/'",
    "hard_heap_limit = 1",
    "hard_heap_limit",
    "wal_checkpoint",
    "shrink_memory",
    "database_list",
    "main.Foreign_Keys = 0",
]


@pytest.mark.parametrize("setting", SETTINGS)
async def test_no_statement_changes_a_setting_for_the_jobs_after_it(ctx, file, setting):
    for write in (False, True):
        with pytest.raises(StatementRefused, match="tasks change no PRAGMA"):
            await query_database.function(ctx, f"PRAGMA {setting}", write=write)
    assert await query_database.function(ctx, "PRAGMA foreign_keys") == [{"foreign_keys": 1}]


@pytest.mark.parametrize("switch", ["ON", "OFF"])
async def test_reading_alone_is_decided_for_each_call(ctx, file, switch):
    await query_database.function(ctx, "CREATE TABLE t (a INTEGER)", write=True)
    for write in (False, True):
        await query_database.function(ctx, f"PRAGMA query_only = {switch}", write=write)
        with pytest.raises(StatementRefused, match=r"read-?only"):
            await query_database.function(ctx, "INSERT INTO t VALUES (1)")
        assert await query_database.function(ctx, "INSERT INTO t VALUES (1)", write=True) == []


async def test_what_a_pragma_tells_can_be_asked(ctx, file):
    await query_database.function(ctx, "CREATE TABLE t (a INTEGER)", write=True)
    for sql in ("PRAGMA table_info(t)", "SELECT name FROM pragma_table_info('t')", "PRAGMA integrity_check"):
        assert len(await query_database.function(ctx, sql)) == 1
    await query_database.function(ctx, "PRAGMA user_version = 3", write=True)
    assert await query_database.function(ctx, "PRAGMA user_version") == [{"user_version": 3}]


async def test_one_value_takes_no_gigabyte(ctx, file):
    with pytest.raises(StatementRefused, match="too big"):
        await query_database.function(ctx, "SELECT length(zeroblob(1000000000))")


@pytest.mark.parametrize("write", [False, True])
async def test_a_statement_without_an_end_ends_with_its_job(ctx, file, write):
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
    job = asyncio.create_task(query_database.function(ctx, endless, write=write))
    await asyncio.wait({job}, timeout=0.2)
    job.cancel()
    done, _ = await asyncio.wait({job}, timeout=20)
    assert done == {job}
    assert job.cancelled()
    # Its connection, if it is used again, does as before; its thread is free, or closing would wait for it.
    assert await query_database.function(ctx, "SELECT 1 AS one", write=write) == [{"one": 1}]
    await asyncio.wait_for(keeper_of(ctx.state).close(), 20)


def test_a_value_that_postgresql_quotes_is_not_shown():
    asyncpg = pytest.importorskip("asyncpg")
    cause = asyncpg.exceptions.DataError("invalid input for query argument $1: 's3cret' (not an integer)")
    server = asyncpg.exceptions.InvalidTextRepresentationError('invalid input syntax for type integer: "s3cret"')
    for error in (cause, server):
        explained = database_engines._explained(error, error, lost=False)
        assert isinstance(explained, StatementRefused)
        assert "s3cret" not in str(explained)


# --- inserts


async def test_many_rows(ctx, users):
    done = await insert_rows.function(ctx, "users", people(5000))
    assert (done.given, done.inserted) == (5000, 5000)
    assert await count(ctx) == 5000


async def test_no_rows(ctx):
    assert (await insert_rows.function(ctx, "users", [])).inserted == 0


async def test_a_second_run_inserts_nothing_twice(ctx, users):
    await insert_rows.function(ctx, "users", people(1500), on_conflict="ignore")
    again = await insert_rows.function(ctx, "users", people(1500), on_conflict="ignore")
    assert (again.given, again.inserted) == (1500, 0)
    overlapping = await insert_rows.function(ctx, "users", people(1500, start=1000), on_conflict="ignore")
    assert overlapping.inserted == 1000
    assert await count(ctx) == 2500


async def test_all_or_none(ctx, users):
    await insert_rows.function(ctx, "users", people(1, start=1999))
    with pytest.raises(StatementRefused, match="IntegrityError") as caught:
        await insert_rows.function(ctx, "users", people(2000))
    assert await count(ctx) == 1
    assert not insert_rows.options.retry.retries(caught.value)


async def test_lists_and_dicts_become_json(ctx, users):
    await insert_rows.function(ctx, "users", [{"id": 1, "name": "a", "extra": {"k": [1, "ü"]}}])
    assert await query_database.function(ctx, "SELECT extra FROM users") == [{"extra": '{"k":[1,"ü"]}'}]


async def test_dates_are_iso_text_in_sqlite(ctx, file):
    await query_database.function(ctx, "CREATE TABLE t (a TEXT, b TEXT)", write=True)
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    await insert_rows.function(ctx, "t", [{"a": moment, "b": moment.date()}])
    rows = await query_database.function(ctx, "SELECT * FROM t WHERE a = :a", {"a": moment})
    assert rows == [{"a": "2026-01-02T03:04:05+00:00", "b": "2026-01-02"}]


@pytest.mark.parametrize(
    "name",
    [
        "users; DROP TABLE users",
        "users--",
        'users"; DROP TABLE users; --',
        "users (id) VALUES (1)",
        "",
        "1users",
        "üsers",
        "a.b.users",
        "main.",
        ".users",
        "users\0",
        "x" * 64,
    ],
)
async def test_names_that_are_no_identifiers(ctx, users, name):
    with pytest.raises(InvalidRows):
        await insert_rows.function(ctx, name, people(1))
    if "." not in name:
        with pytest.raises(InvalidRows, match="column"):
            await insert_rows.function(ctx, "users", [{"id": 1, "name": "a", name: "x"}])
    assert await count(ctx) == 0


async def test_a_name_that_is_a_word_of_sql_is_quoted(ctx, file):
    await query_database.function(ctx, 'CREATE TABLE "order" ("select" INTEGER, "group" TEXT)', write=True)
    await insert_rows.function(ctx, "main.order", [{"select": 1, "group": "a"}])
    assert await query_database.function(ctx, 'SELECT * FROM "order"') == [{"select": 1, "group": "a"}]


async def test_rows_that_differ(ctx, users):
    with pytest.raises(InvalidRows, match="row 1 and row 0 differ in their columns: 'extra', 'other'"):
        await insert_rows.function(
            ctx, "users", [{"id": 1, "name": "a", "extra": ""}, {"id": 2, "name": "b", "other": ""}]
        )
    with pytest.raises(InvalidRows, match="no columns"):
        await insert_rows.function(ctx, "users", [{}])


async def test_a_column_that_is_not_there(ctx, users):
    with pytest.raises(StatementRefused, match="nope"):
        await insert_rows.function(ctx, "users", [{"id": 1, "name": "a", "nope": 1}])


# --- engines


async def test_sqlite_is_set_up_for_many_workers(ctx, file):
    async def pragma(name):
        return next(iter((await query_database.function(ctx, f"PRAGMA {name}"))[0].values()))

    assert await pragma("journal_mode") == "wal"
    assert await pragma("busy_timeout") == 10_000
    assert await pragma("foreign_keys") == 1


async def test_inserts_of_many_jobs_at_once(ctx, users):
    await asyncio.gather(
        *(insert_rows.function(ctx, "users", people(50, start=n * 50)) for n in range(20)),
        *(query_database.function(ctx, "SELECT 1") for _ in range(20)),
    )
    assert await count(ctx) == 1000


async def test_a_locked_database_is_tried_again(ctx, file, monkeypatch):
    monkeypatch.setattr(database_engines, "_SQLITE_BUSY_MS", 10)
    await query_database.function(ctx, "CREATE TABLE t (a INTEGER)", write=True)
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked") as caught:
            await insert_rows.function(ctx, "t", [{"a": 1}])
        assert insert_rows.options.retry.retries(caught.value)
        other.execute("ROLLBACK")
        assert (await insert_rows.function(ctx, "t", [{"a": 1}])).inserted == 1
    finally:
        other.close()


async def test_a_database_that_cannot_be_opened(ctx, tmp_path, monkeypatch):
    monkeypatch.setenv("BARQUE_DATABASE_URL", f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        await query_database.function(ctx, "SELECT 1")
    # aiosqlite 0.22 does not wait for the thread of a connection it could not open, and that thread
    # wants the event loop once more.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


async def test_jobs_of_one_worker_share_the_engine_of_a_url(ctx, file, tmp_path, monkeypatch):
    monkeypatch.setenv("BARQUE_DATABASE_URL_REPORTS", f"sqlite:///{tmp_path}/reports.sqlite3")
    for _ in range(2):
        await query_database.function(ctx, "SELECT 1")
        await query_database.function(
            Context(state=ctx.state), "CREATE TABLE IF NOT EXISTS r (a INTEGER)", database="reports", write=True
        )
    assert len(ctx[database_engines.engines]._engines) == 2
    assert (tmp_path / "reports.sqlite3").exists()
    with pytest.raises(StatementRefused, match="no such table"):
        await query_database.function(ctx, "SELECT * FROM r")


async def test_a_database_nobody_configured(ctx):
    with pytest.raises(ConfigurationError, match="set BARQUE_DATABASE_URL_REPORTS") as caught:
        await query_database.function(ctx, "SELECT 1", database="reports")
    assert not query_database.options.retry.retries(caught.value)


@pytest.mark.parametrize("name", ["", "a-b", "../x", "é"])
async def test_a_job_names_a_database_and_nothing_else_of_the_environment(ctx, name):
    with pytest.raises(ConfigurationError, match="letters, digits"):
        await query_database.function(ctx, "SELECT 1", database=name)


@pytest.mark.parametrize("url", ["hunter2", "nosuch://u:hunter2@host/db", "://hunter2"])
async def test_a_url_that_is_none_is_not_shown(ctx, monkeypatch, url):
    monkeypatch.setenv("BARQUE_DATABASE_URL", url)
    with pytest.raises(ConfigurationError, match="BARQUE_DATABASE_URL") as caught:
        await query_database.function(ctx, "SELECT 1")
    assert "hunter2" not in str(caught.value)


async def test_without_its_driver_postgresql_names_the_extra(ctx, monkeypatch):
    monkeypatch.setenv("BARQUE_DATABASE_URL", "postgresql://u:hunter2@localhost/db")
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigurationError, match=r"barque\[postgres\]") as caught:
        await query_database.function(ctx, "SELECT 1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(not POSTGRES, reason="BARQUE_TEST_POSTGRES_URL names no database")
async def test_a_postgresql_that_is_not_there_is_tried_again(ctx, monkeypatch):
    monkeypatch.setenv("BARQUE_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/db")
    with pytest.raises(DatabaseUnavailable) as caught:
        await query_database.function(ctx, "SELECT 1")
    assert "hunter2" not in str(caught.value)

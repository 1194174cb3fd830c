"""What a batch task's function may look like, what one call of it takes and gives, and what its options may be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from common import BatchContext, Context, RetryPolicy, cron, task
from common import tasks as registry
from common.batches import BatchTask
from common.errors import ArgumentMismatch, BatchMismatch, ConfigurationError
from common.values import encode
from workers.batch_runs import BatchRunnable
from workers.runnables import Defaults


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registry", {})


@dataclass
class Row:
    name: str


@pytest.fixture
def insert():
    @task(batch=10)
    async def insert(ctx: BatchContext, rows: list[Row]) -> list[int | ValueError]:
        return [len(row.name) for row in rows]

    return insert


def test_a_call_takes_one_item(insert):
    assert isinstance(insert, BatchTask)
    call = insert(Row("a"))
    assert (call.name, call.args, call.kwargs) == ("insert", (Row("a"),), {})
    for args, kwargs in (((), {}), ((Row("a"), Row("b")), {}), ((), {"rows": Row("a")})):
        with pytest.raises(TypeError):
            insert(*args, **kwargs)


def test_its_item_is_read_from_the_wire_as_an_element_of_the_list(insert):
    assert insert.arguments.read(encode([{"name": "a"}]), encode({})) == ((Row("a"),), {})
    with pytest.raises(ArgumentMismatch, match="insert: argument rows"):
        insert.arguments.read(encode([[{"name": "a"}]]), encode({}))
    with pytest.raises(ArgumentMismatch, match="insert"):
        insert.arguments.read(encode([]), encode({}))


def made(items: Any, returns: Any) -> BatchTask[Any, Any]:
    async def insert(ctx, rows): ...

    insert.__annotations__ = {"rows": items, "return": returns}
    return task(batch=2)(insert)


@pytest.mark.parametrize("items", [list[Row], Sequence[Row], tuple[Row, ...], "list[Row]"])
def test_any_list_will_do(items):
    assert made(items, None).arguments.read(encode([{"name": "a"}]), encode({}))[0] == (Row("a"),)


@pytest.mark.parametrize("items", [list, Any])
def test_one_that_says_nothing_of_its_items_takes_any(items):
    assert made(items, None).arguments.read(encode([5]), encode({}))[0] == (5,)


@pytest.mark.parametrize(
    ("returns", "value"),
    [
        (list[Row], Row("a")),
        (list[Row | ValueError], Row("a")),
        (list[Row | Exception] | None, Row("a")),
        (list[Row] | None, None),
        (Sequence[Row | None], None),
        (list[BaseException], None),
        (None, None),
        (Any, {"name": "a"}),
        (list, {"name": "a"}),
    ],
)
def test_a_jobs_result_is_an_element_of_what_it_returns_exceptions_aside(returns, value):
    assert made(list[int], returns).result.read(encode(value), "result") == value


def test_a_result_of_another_type_is_seen():
    with pytest.raises(ArgumentMismatch):
        made(list[int], list[Row | ValueError]).result.read(encode(5), "result")


@pytest.mark.parametrize("items", [int, dict[str, int], tuple[int, str], set[int]])
def test_items_that_are_no_list_are_refused_when_the_worker_starts(items):
    with pytest.raises(ConfigurationError, match=r"parameter 'rows' receives the items.*annotate it as a list"):
        made(items, None).arguments  # noqa: B018


@pytest.mark.parametrize("returns", [int, dict[str, int], list[int] | set[int]])
def test_outcomes_that_are_no_list_are_refused_too(returns):
    with pytest.raises(ConfigurationError, match="returns one outcome for each item"):
        made(list[int], returns).result  # noqa: B018


async def no_items(ctx): ...


async def more(ctx, rows, table): ...


async def by_name(ctx, *, rows): ...


async def with_default(ctx, rows=()): ...


async def star(ctx, *rows): ...


@pytest.mark.parametrize("function", [no_items, more, by_name, with_default, star])
def test_the_function_takes_the_context_and_the_items(function):
    with pytest.raises(ConfigurationError, match=r"takes the context and a list of items, and nothing else"):
        task(batch=2)(function)


def test_a_plain_def_is_refused():
    with pytest.raises(ConfigurationError, match="write `async def`"):

        @task(batch=2)
        def blocking(ctx, rows): ...


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "batch=0: give a number of jobs"),
        ({"batch": 10_001}, "give a number of jobs, 1 to 10,000"),
        ({"batch": True}, "batch=True"),
        ({"batch": 2.0}, r"batch=2\.0"),
        ({"batch": 2, "within": -1}, r"within=-1"),
        ({"batch": 2, "within": 601}, "holds a slot and a lease"),
        ({"batch": 2, "within": float("nan")}, "within=nan"),
        ({"batch": 2, "within": 5, "timeout": 5}, "a job waits for others within its timeout"),
    ],
)
def test_options_that_make_no_sense_say_why(options, says):
    with pytest.raises(ConfigurationError, match=says):
        task(**options)(more_or_less)


async def more_or_less(ctx, rows): ...


def test_within_alone_is_a_mistake():
    with pytest.raises(ConfigurationError, match="give batch= too"):
        task(within=1)


def test_a_schedule_needs_an_item():
    with pytest.raises((ConfigurationError, TypeError)):
        cron("@daily")(task(batch=2)(more_or_less))


def test_a_workers_timeout_leaves_time_for_the_waiting(insert):
    with pytest.raises(ConfigurationError, match=r"insert.*wait for others for up to 0\.1 s.*time out after 0\.05 s"):
        BatchRunnable(insert, Defaults(0.05, 5, 0), "w")


@pytest.mark.parametrize("own", [{"rules": {BatchMismatch: "retry"}}, {"fail_on": (BatchMismatch,)}])
def test_a_policy_of_its_own_for_a_wrong_number_of_outcomes_stands(own):
    policy = RetryPolicy(**own)
    kept = BatchRunnable(task(batch=2, retry=policy)(more_or_less), Defaults(5, 5, 0), "w").policy
    assert kept is policy


def test_a_wrong_number_of_outcomes_is_not_tried_again_otherwise(insert):
    policy = BatchRunnable(insert, Defaults(5, 5, 0), "w").policy
    assert not policy.retries(BatchMismatch("wrong"))
    assert policy.retries(ValueError())


def test_progress_belongs_to_a_job():
    ctx = BatchContext(task="insert", jobs=[Context()])
    with pytest.raises(ConfigurationError, match=r"ctx\.jobs\[i\]"):
        ctx.progress(1)
    ctx.jobs[0].progress(1, 2)
    assert repr(ctx) == "<BatchContext insert of 1 job(s)>"


def test_its_annotations_are_looked_at_once(insert):
    assert insert.arguments is insert.arguments
    assert insert.result.read(msgspec.msgpack.encode(5), "result") == 5
    assert asyncio.run(insert.function(BatchContext(), [Row("abc")])) == [3]

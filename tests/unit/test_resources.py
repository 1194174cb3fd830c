"""Resources outside a worker: what may be one, circles, openings that fail or take too long, and what is registered."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common import Context, Resources, lifespan
from common import resources as declared
from common.errors import ConfigurationError, ResourceFailed
from common.open_resources import ResourceKeeper, keeper_of


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(declared, "_registry", {})


@pytest.fixture
async def keeper():
    made = ResourceKeeper({})
    yield made
    await made.close()
    assert made.state == {}


async def coroutine() -> int:
    return 1


def generator():
    yield 1


async def takes_two(resources, more):
    yield 1


async def takes_a_keyword(*, resources):
    yield 1


@pytest.mark.parametrize("function", [coroutine, generator, takes_two, takes_a_keyword, 5])
def test_what_cannot_open_and_close_is_refused_where_it_stands(function):
    with pytest.raises(ConfigurationError, match="@lifespan on"):
        lifespan(function)


@pytest.mark.parametrize("option", ["opens_within", "closes_within"])
@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("nan")])
def test_times_make_sense(option, seconds):
    with pytest.raises(ConfigurationError, match=option):
        lifespan(**{option: seconds})


async def test_a_function_that_returns_something_else_says_so(keeper):
    wrong = lifespan(lambda: 5)
    with pytest.raises(ConfigurationError, match="returned a int"):
        await keeper.opened(wrong)


async def test_only_resources_are_opened(keeper):
    with pytest.raises(ConfigurationError, match="got str"):
        await keeper.opened("database")
    with pytest.raises(ConfigurationError, match="lifespans: <function"):
        await keeper.open_all([coroutine])


def declare() -> object:
    async def inside():
        yield 1

    return lifespan(inside)


def test_a_module_that_is_imported_again_declares_its_resources_once():
    first, second = declare(), declare()
    assert first is not second
    assert declared.registered_resources() == (second,)
    assert second.name == "inside"


async def test_all_who_ask_at_once_get_the_same(keeper):
    made = []

    @lifespan(lazy=True)
    async def slow() -> AsyncIterator[object]:
        await asyncio.sleep(0)
        made.append(object())
        yield made[-1]

    assert await asyncio.gather(*(keeper.opened(slow) for _ in range(5))) == made * 5


async def test_one_that_is_asked_for_by_an_attempt_that_is_cancelled_is_opened_for_the_next(keeper):
    go_on = asyncio.Event()

    @lifespan(lazy=True)
    async def slow() -> AsyncIterator[str]:
        await go_on.wait()
        yield "open"

    first = asyncio.create_task(keeper.opened(slow))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    go_on.set()
    assert await keeper.opened(slow) == "open"


async def test_resources_that_need_each_other_are_an_error_and_no_deadlock(keeper):
    @lifespan
    async def chicken(resources: Resources) -> AsyncIterator[int]:
        await resources.open(egg)
        yield 1

    @lifespan
    async def egg(resources: Resources) -> AsyncIterator[int]:
        await resources.open(chicken)
        yield 1

    with pytest.raises(ConfigurationError, match="egg -> chicken -> egg"):
        await keeper.opened(chicken)
    both = await asyncio.gather(keeper.opened(chicken), keeper.opened(egg), return_exceptions=True)
    assert [type(error) for error in both] == [ConfigurationError] * 2


async def test_one_that_needs_another_fails_with_that_ones_error(keeper):
    @lifespan
    async def broken() -> AsyncIterator[int]:
        raise OSError("no route")
        yield 1

    @lifespan
    async def needs_it(resources: Resources) -> AsyncIterator[int]:
        yield await resources.open(broken)

    with pytest.raises(ResourceFailed, match=r"broken \(.*OSError: no route"):
        await keeper.opened(needs_it)


@pytest.mark.parametrize("obeys", [True, False])
async def test_one_that_does_not_open_in_time_is_given_up_and_left_closed(keeper, obeys):
    go_on, closed = asyncio.Event(), asyncio.Event()

    @lifespan(opens_within=0.01)
    async def slow() -> AsyncIterator[int]:
        try:
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    if obeys:
                        raise
            yield 1
        finally:
            closed.set()

    with pytest.raises(ResourceFailed, match=r"TimeoutError: it took longer than 0\.01 s"):
        await keeper.opened(slow)
    assert slow not in keeper.state
    go_on.set()
    await closed.wait()
    assert slow not in keeper.state


async def test_it_is_opened_and_closed_in_one_asyncio_task(keeper):
    tasks = []

    @lifespan
    async def scope() -> AsyncIterator[int]:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(60), asyncio.TaskGroup():
            yield 1
        tasks.append(asyncio.current_task())

    await keeper.opened(scope)
    await keeper.close()
    assert tasks[0] is tasks[1]


async def test_closing_ends_an_opening_that_goes_on(keeper):
    @lifespan
    async def slow() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    asked = asyncio.create_task(keeper.opened(slow))
    await asyncio.sleep(0)
    await keeper.close()
    with pytest.raises(ConfigurationError, match="closing"):
        await asked


async def test_many_that_do_not_close_share_the_time_there_is(keeper):
    def stuck():
        @lifespan(closes_within=60)
        async def never() -> AsyncIterator[int]:
            yield 1
            await asyncio.Event().wait()

        return never

    for _ in range(5):
        await keeper.opened(stuck())
    async with asyncio.timeout(30):  # sixty for each, left to themselves
        await keeper.close(1)


async def test_a_context_outside_a_worker_opens_for_itself():
    @lifespan(lazy=True)
    async def client() -> AsyncIterator[str]:
        yield "client"

    ctx = Context()
    assert await ctx.open(client) == "client"
    assert ctx[client] == "client"
    await keeper_of(ctx.state).close()
    assert client not in ctx.state


def test_other_keys_are_looked_up_as_ever():
    assert Context(state={"pool": 1})["pool"] == 1
    with pytest.raises(KeyError, match="pool"):
        Context()["pool"]

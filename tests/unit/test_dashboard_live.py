"""The streams of pages, with what is drawn made up."""

import asyncio
import json
import time

import pytest

from common.errors import JobNotFound, RedisUnavailable
from dashboard.live import Drawn, Live, TooManyViewers


class Page:
    """A page whose regions a test sets."""

    def __init__(self) -> None:
        self.regions = {"a": "one", "b": "two"}
        self.trouble: Exception | None = None
        self.drawn = 0

    async def draw(self) -> Drawn:
        self.drawn += 1
        if self.trouble is not None:
            raise self.trouble
        return Drawn(
            self.drawn, dict(self.regions), {name: html.partition("|")[0] for name, html in self.regions.items()}
        )


@pytest.fixture
async def live():
    made = Live(every=0.0, most=3)
    yield made
    await made.aclose()


@pytest.fixture
def page() -> Page:
    return Page()


async def told(stream) -> dict:
    async with asyncio.timeout(30):
        event = await anext(stream)
    head, data, *_ = event.split("\n")
    assert head == "event: regions"
    return json.loads(data.removeprefix("data: "))


async def test_a_viewer_is_sent_all_and_then_what_changes(live, page):
    stream = live.join("/", page.draw)
    assert (await told(stream))["html"] == {"a": "one", "b": "two"}
    page.regions["b"] = "three"
    assert (await told(stream))["html"] == {"b": "three"}
    await stream.aclose()


async def test_what_changes_by_itself_is_not_sent_again(live, page):
    stream = live.join("/", page.draw)
    await told(stream)
    page.regions["a"] = "one|2s ago"
    seen = page.drawn
    while page.drawn < seen + 3:
        await asyncio.sleep(0)
    page.regions["b"] = "three"
    assert (await told(stream))["html"] == {"b": "three"}
    await stream.aclose()


async def test_viewers_of_an_address_share_what_is_drawn(live, page):
    others = Page()
    first, second = live.join("/", page.draw), live.join("/", others.draw)
    assert (await told(first))["html"] == (await told(second))["html"]
    assert live.viewers == 2
    assert others.drawn == 0
    for stream in (first, second):
        await stream.aclose()
    assert live.viewers == 0


async def test_nothing_is_asked_when_nobody_looks(live, page):
    stream = live.join("/", page.draw)
    await told(stream)
    assert live.is_looking
    await stream.aclose()
    async with asyncio.timeout(30):
        while live.is_looking:
            await asyncio.sleep(0.01)
    drawn = page.drawn
    again = live.join("/", page.draw)
    assert (await told(again))["html"] == page.regions
    assert page.drawn > drawn
    await again.aclose()


async def test_there_are_only_so_many_viewers(live, page):
    streams = [live.join(f"/{number}", page.draw) for number in range(3)]
    for stream in streams:
        await told(stream)
    with pytest.raises(TooManyViewers, match="3 viewers"):
        live.join("/", page.draw)
    await streams[0].aclose()
    await live.join("/", page.draw).aclose()
    for stream in streams[1:]:
        await stream.aclose()


async def test_a_stream_that_nobody_read_takes_no_place(live, page):
    for _ in range(5):
        await live.join("/", page.draw).aclose()
    assert live.viewers == 0


async def test_redis_goes_and_comes_back(live, page):
    stream = live.join("/", page.draw)
    await told(stream)
    page.trouble = RedisUnavailable("gone fishing")
    away = await told(stream)
    assert away["away"] == "gone fishing"
    assert away["html"] == {}
    late = live.join("/", page.draw)
    assert (await told(late))["away"] == "gone fishing"
    page.trouble = None
    for each in (stream, late):
        back = await told(each)
        assert back["away"] is None
        assert back["html"] == page.regions
        await each.aclose()


@pytest.mark.parametrize("trouble", [JobNotFound("expired", job_id="1"), ZeroDivisionError()])
async def test_a_page_that_cannot_be_drawn_stays_as_it_is(live, page, trouble):
    stream = live.join("/", page.draw)
    await told(stream)
    page.trouble = trouble
    seen = page.drawn
    while page.drawn < seen + 2:
        await asyncio.sleep(0.01)
    page.trouble = None
    page.regions["a"] = "four"
    assert (await told(stream))["html"] == {"a": "four"}
    await stream.aclose()


async def test_a_page_that_is_dear_to_draw_is_drawn_less_often(live, page):
    async def draw_slowly() -> Drawn:
        await asyncio.sleep(0.02)
        return await page.draw()

    before = time.monotonic()
    stream = live.join("/jobs", draw_slowly)
    await told(stream)
    page.regions["a"] = "two"
    await told(stream)
    assert time.monotonic() >= before + 10 * 0.02  # the second time it was drawn
    await stream.aclose()


async def test_a_stop_ends_all_streams(live, page):
    stream = live.join("/", page.draw)
    await told(stream)
    live.close()
    async with asyncio.timeout(30):
        assert [event async for event in stream if not event.startswith("event")] == []
    with pytest.raises(TooManyViewers):
        live.join("/", page.draw)

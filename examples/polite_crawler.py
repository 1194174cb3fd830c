"""Crawl one site as a guest who wants to come again: two pages a second, each page once a day, robots.txt heeded.

    cd examples
    BARQUE_TASKS=polite_crawler barque worker
    python polite_crawler.py https://example.org/ 2

Each page is a job, which enqueues the pages it links to. Whatever the number of workers, a host is asked twice a
second; a page that is reached by a hundred links is fetched once. What a dying worker had, others try.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import aiohttp

from common import Context, Discard, RateLimit, RetryPolicy, Unique, exponential, lifespan, task
from producer import Producer

NAME = "barque-example-crawler"


@lifespan
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": NAME}) as session:
        yield session


@lifespan
async def enqueuing() -> AsyncIterator[Producer]:
    async with Producer() as producer:
        yield producer


class Links(HTMLParser):
    """The addresses a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def host_of(url: str, **_: Any) -> str:
    return urlsplit(url).netloc


@task(
    timeout=30,
    retry=RetryPolicy(max_attempts=4, backoff=exponential(10, maximum=600)),
    limits=[RateLimit(2, per=1, key=host_of, hold_on_retry_after=True)],
    unique=Unique(key="url", for_=24 * 3600),
)
async def crawl(ctx: Context, url: str, *, depth: int = 1) -> int:
    """Fetch a page and enqueue the pages of its host that it links to; return how many those were."""
    session = ctx[http]
    if not await allowed(session, url):
        raise Discard("robots.txt does not want it")
    async with session.get(url) as answer:
        answer.raise_for_status()
        if answer.content_type != "text/html":
            raise Discard(f"{answer.content_type} is no page")
        page = await answer.text(errors="replace")
    links = Links()
    links.feed(page)
    inside = {urldefrag(urljoin(url, link)).url for link in links.found}
    inside = {link for link in inside if host_of(link) == host_of(url) and urlsplit(link).scheme in {"http", "https"}}
    if depth > 0:
        await ctx[enqueuing].enqueue_many(crawl(link, depth=depth - 1) for link in sorted(inside - {url}))
    ctx.log.info("crawled", characters=len(page), links=len(inside))
    return len(inside)


async def allowed(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(urljoin(url, "/robots.txt")) as answer:
        if answer.status >= 400:
            return True
        rules = RobotFileParser()
        rules.parse((await answer.text(errors="replace")).splitlines())
    return rules.can_fetch(NAME, url)


async def main(url: str, depth: int) -> None:
    async with Producer() as producer:
        job = await producer.enqueue(crawl(url, depth=depth))
        print(url, "links to", await job.result(timeout=60), "pages; `barque top` shows the rest being fetched")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1))

"""`barque limits` as a program, against a real server."""

import pytest

from common.redis.limits import Ask, Leaver, LimitStore, gate
from common.redis.records import HeldLease
from tests.integration.test_cli import barque, run

__all__ = ["barque", "run"]

pytestmark = pytest.mark.leaves_keys("arq:*", "barque:wake:*", "barque:lift:*")

RATE = gate("rate", "fetch", "the-secret-host", 60_000, (3_600_000.0, 1))
PLACES = gate("concurrency", "fetch", None, 60_000, (1,))
BREAKER = gate("breaker", "pay", "k\x1b[31m", 60_000, (1, 3_600_000, 3_600_000, 0.5, 1, 60_000))


@pytest.fixture
async def in_use(redis):
    """A job runs, one waits in its lane, one was too early for its rate; a breaker is open."""
    store = LimitStore(redis)
    for job_id, gates in (("runs", (RATE, PLACES)), ("waits", (PLACES,)), ("early", (RATE,))):
        lease = HeldLease(0, job_id, "w:1:1", 1)
        await redis.set(f"arq:in-progress:{job_id}", "w:1:1", px=60_000)
        await redis.set(f"arq:job:{job_id}", b"")
        ask = Ask(lease, 1, 1000, "", 0, tuple((each, 1.0) for each in gates))
        await store.admit(("arq:queue",), [ask], lease_ms=60_000, wait_ms=100, lead_ms=50)
    await store.leave([Leaver(BREAKER, "x", "t", "bad")], lease_ms=60_000)


@pytest.mark.usefixtures("in_use")
async def test_from_looking_to_resetting(run):
    listed = await run("limits", "list", "--json")
    assert listed.code == 0, listed.err
    shown = {(info["name"], info["kind"]): info for info in listed.document}
    assert shown["fetch", "concurrency"]["in_use"] == 1
    assert shown["fetch", "concurrency"]["waiting"] == 1
    assert shown["fetch", "rate"]["next_free"] is not None
    assert shown["pay", "breaker"]["state"] == "open"
    assert "the-secret-host" not in listed.out

    text = (await run("limits", "list", "fetch")).out
    assert "1/1" in text
    assert "the-secret-host" not in text
    assert "pay" not in text
    keys = (await run("limits", "list", "--keys")).out
    assert "the-secret-host" in keys
    assert "\x1b" not in keys

    reset = await run("limits", "reset", "pay")
    assert (reset.code, reset.err.strip()) == (0, "Reset 1 limit called pay.")
    (closed,) = (await run("limits", "list", "pay", "--json")).document
    assert closed["state"] == "closed"
    (waits,) = (await run("status", "waits", "--json")).document
    assert waits["waits_for"] == "concurrency:fetch"
    assert "waits for  concurrency:fetch" in " ".join((await run("status", "waits")).out.split("\n")).replace(
        "   ", "  "
    )


async def test_where_none_is_in_use_it_says_so(run):
    assert "No limits are in use." in (await run("limits", "list")).out
    nothing = await run("limits", "reset", "fetch")
    assert nothing.code == 1
    assert nothing.err.startswith("No limit called fetch is in use")

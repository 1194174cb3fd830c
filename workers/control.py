"""Listen for what is said to all workers: "abort this attempt", "schedules have changed", "so has what is paused".

Owns the subscription to the control channel and its words; what those who look on say comes over the same connection.
Aborts asked for by stock arq clients make no noise there; the engine's heartbeat looks for those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from common.redis.connection import TROUBLE
from common.redis.keys import CONTROL_CHANNEL
from common.redis.looks import observe_channel_of
from common.redis.push import Aside, listen
from common.redis.store import Store
from workers.backoff import Backoff

__all__ = ["listen_for_orders"]

log = structlog.get_logger("barque.control")


async def listen_for_orders(
    store: Store,
    *,
    abort: Callable[[str, str], None] | None,
    schedules_changed: Callable[[], None],
    pauses_changed: Callable[[], None],
    looked_on: Callable[[bytes], None],
) -> None:
    """Call these as orders come, until cancelled.

    Args:
        abort: called with token and job id of an attempt that is to be aborted; None honours no aborts.
        schedules_changed: called when a schedule was.
        pauses_changed: called when something was paused or resumed, and when that may have been missed.
        looked_on: called with what somebody who looks on says.
    """
    backoff = Backoff()
    also = Aside(observe_channel_of(store.client), looked_on)

    def receive(message: bytes) -> None:
        backoff.reset()
        verb, _, rest = message.decode(errors="surrogateescape").partition(" ")
        if verb == "abort" and abort is not None:
            token, _, job_id = rest.partition(" ")
            abort(token, job_id)
        elif verb == "schedules":
            schedules_changed()
        elif verb == "pauses":
            pauses_changed()

    while True:
        try:
            await listen(store.client, CONTROL_CHANNEL, receive, subscribed=pauses_changed, also=also)
        except TROUBLE as error:
            log.debug("control_channel_lost", error=str(error))
        await asyncio.sleep(backoff.next())

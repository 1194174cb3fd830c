"""arq's own way to enqueue, signed: `ctx["redis"].enqueue_job(…)` and cron jobs in a worker that has keys.

arq's serializer is given the job without its id and queue, which a signature covers; so `enqueue_job` notes them for
it. Owns that, for the worker's own client and no other. Does not import arq: its client is taken by what it has.
"""

from __future__ import annotations

import copy
import pickle
from contextvars import ContextVar
from typing import Any

from common.jobs import new_job_id
from common.signing import Keyring

__all__ = ["signing_client"]


def signing_client(client: Any, signing: Keyring | None) -> Any:
    """Return a copy of an `ArqRedis`, on the same connections, that signs what it enqueues.

    The given one stays as it is: it may be the caller's, and feed others. One that signs already is returned itself,
    and so is any where there are no keys.
    """
    if signing is None or getattr(client, "signing", None) is signing:
        return client
    signed = copy.copy(client)
    enqueue, serialize = signed.enqueue_job, signed.job_serializer or pickle.dumps
    place: ContextVar[tuple[str, str]] = ContextVar("place")

    async def enqueue_job(
        function: str, *args: Any, _job_id: str | None = None, _queue_name: str | None = None, **options: Any
    ) -> Any:
        job_id, queue = _job_id or new_job_id(), _queue_name or signed.default_queue_name
        noted = place.set((job_id, queue))
        try:
            return await enqueue(function, *args, _job_id=job_id, _queue_name=queue, **options)
        finally:
            place.reset(noted)

    signed.signing = signing
    signed.enqueue_job = enqueue_job
    signed.job_serializer = lambda data: signing.seal_job(serialize(data), *place.get())
    return signed

"""RQ with `Retry`."""

import hanging
from redis import Redis
from rq import Queue, Retry

hang = hanging.blocking_hang


def send():
    Queue(connection=Redis.from_url(hanging.REDIS_URL)).enqueue("rq_retry_app.hang", retry=Retry(max=3))

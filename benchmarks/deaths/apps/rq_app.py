"""RQ with its defaults."""

import hanging
from redis import Redis
from rq import Queue

hang = hanging.blocking_hang


def send():
    Queue(connection=Redis.from_url(hanging.REDIS_URL)).enqueue("rq_app.hang")

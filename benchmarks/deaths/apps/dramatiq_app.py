"""Dramatiq with its defaults."""

import dramatiq
import hanging
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=hanging.REDIS_URL))

hang = dramatiq.actor(hanging.blocking_hang, actor_name="hang")


def send():
    hang.send()

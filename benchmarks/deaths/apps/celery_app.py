"""Celery with its defaults: a task is acknowledged before it runs."""

import hanging
from celery import Celery

app = Celery("celery_app", broker=hanging.REDIS_URL)
app.conf.broker_connection_retry_on_startup = True

hang = app.task(hanging.blocking_hang, name="hang")


def send():
    hang.delay()

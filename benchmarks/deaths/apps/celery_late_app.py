"""Celery with `acks_late`: a task is acknowledged after it ran, and given out again after the visibility timeout."""

import hanging
from celery import Celery

app = Celery("celery_late_app", broker=hanging.REDIS_URL)
app.conf.broker_connection_retry_on_startup = True

hang = app.task(hanging.blocking_hang, name="hang", acks_late=True)


def send():
    hang.delay()

"""Celery's app and tasks, run by its own command line with the gevent pool."""

import bodies
from celery import Celery
from surroundings import REDIS_URL

app = Celery("app", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    result_expires=3600,
    worker_send_task_events=False,
    task_send_sent_event=False,
    result_backend_thread_safe=True,  # else each greenlet opens a connection of its own for its one result
    broker_connection_retry_on_startup=True,
)

noop = app.task(bodies.blocking_noop, name="noop")
nap = app.task(bodies.blocking_nap, name="nap")
stamp = app.task(bodies.blocking_stamp, name="stamp")

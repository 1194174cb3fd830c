"""taskiq's broker and tasks. uvloop is used by `taskiq worker` where it is installed."""

import bodies
from surroundings import REDIS_URL
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(REDIS_URL).with_result_backend(RedisAsyncResultBackend(REDIS_URL, result_ex_time=3600))

noop = broker.register_task(bodies.noop, task_name="noop")
nap = broker.register_task(bodies.nap, task_name="nap")
stamp = broker.register_task(bodies.stamp, task_name="stamp")

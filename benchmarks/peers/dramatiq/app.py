"""Dramatiq's broker and actors, run by dramatiq-gevent: its documented way to many I/O-bound jobs in one process."""

import bodies
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import BlockingConnectionPool, Redis
from surroundings import REDIS_URL

# redis-py's own pool fails at the 101st connection; this one makes a greenlet wait for its turn.
pool = BlockingConnectionPool.from_url(REDIS_URL, max_connections=100, timeout=None)

broker = RedisBroker(client=Redis(connection_pool=pool))
results = RedisBackend(client=Redis(connection_pool=pool))
broker.add_middleware(Results(backend=results, store_results=True, result_ttl=3_600_000))
dramatiq.set_broker(broker)

noop = dramatiq.actor(bodies.blocking_noop, actor_name="noop")
nap = dramatiq.actor(bodies.blocking_nap, actor_name="nap")
stamp = dramatiq.actor(bodies.blocking_stamp, actor_name="stamp")

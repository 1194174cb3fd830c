"""What the harness tells a worker or a client, from the environment."""

import os
from urllib.parse import urlsplit

REDIS_URL = os.environ["BENCH_REDIS_URL"]
REDIS_PORT = urlsplit(REDIS_URL).port or 6379
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "100"))

"""BullMQ."""

from benchmarks.adapters.base import NodePeer

ADAPTER = NodePeer(
    name="bullmq",
    title="BullMQ",
    settings="one Worker with concurrency as wanted, on Node with ioredis; completed jobs and their results kept "
    "for ever, its default (an hour is slower); it writes no log; `addBulk`, ten thousand a call; results pushed "
    "(QueueEvents)",
    drain_rate=20_000,
    enqueue_rate=28_000,
    versions_of=("bullmq", "ioredis"),
)

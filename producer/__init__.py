"""Enqueue jobs and wait for their results."""

from producer.blocking import BlockingJob, BlockingProducer
from producer.client import Producer
from producer.job import Job

__all__ = ["BlockingJob", "BlockingProducer", "Job", "Producer"]

"""RQ's enqueuing side, with its bulk call, ten thousand jobs at a time."""

import tasks
from redis import Redis
from rq import Queue
from surroundings import REDIS_URL

_AT_ONCE = 10_000
_KEEP = 3600


class Client:
    def open(self) -> None:
        self.queue = Queue(connection=Redis.from_url(REDIS_URL))
        self.tasks = {"noop": tasks.noop, "nap": tasks.nap, "stamp": tasks.stamp}

    def close(self) -> None:
        self.queue.connection.close()

    def enqueue(self, task: str, number: int):
        return self.queue.enqueue_call(self.tasks[task], args=(number,), result_ttl=_KEEP)

    def enqueue_many(self, task: str, numbers: list[int]) -> None:
        function = self.tasks[task]
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            self.queue.enqueue_many([Queue.prepare_data(function, args=(n,), result_ttl=_KEEP) for n in part])

    def result(self, job):
        return job.latest_result(timeout=10).return_value

"""Celery's enqueuing side. It has no bulk call for jobs of their own: one after the other over one connection."""

import app


class Client:
    def open(self) -> None:
        self.tasks = {"noop": app.noop, "nap": app.nap, "stamp": app.stamp}

    def close(self) -> None:
        app.app.close()

    def enqueue(self, task: str, number: int):
        return self.tasks[task].apply_async((number,))

    def enqueue_many(self, task: str, numbers: list[int]) -> None:
        with app.app.producer_pool.acquire(block=True) as producer:
            send = self.tasks[task].apply_async
            for number in numbers:
                send((number,), producer=producer)

    def result(self, handle):
        return handle.get(timeout=10, interval=0.001)

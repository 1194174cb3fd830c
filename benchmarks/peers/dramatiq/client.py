"""Dramatiq's enqueuing side. It has no bulk call for jobs of their own: one after the other."""

import app


class Client:
    def open(self) -> None:
        self.actors = {"noop": app.noop, "nap": app.nap, "stamp": app.stamp}

    def close(self) -> None:
        app.broker.close()

    def enqueue(self, task: str, number: int):
        return self.actors[task].send(number)

    def enqueue_many(self, task: str, numbers: list[int]) -> None:
        send = self.actors[task].send
        for number in numbers:
            send(number)

    def result(self, message):
        return message.get_result(block=True, timeout=10_000)

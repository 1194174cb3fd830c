"""common/group_commit.py: what arrives together is sent together."""

import asyncio

import pytest

from common.group_commit import SEND, Begun, GroupCommit


class Wire:
    """A `send` that holds each batch until the test lets it through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.sent = asyncio.Event()
        self._gates: list[asyncio.Future[None]] = []

    async def send(self, batch: list[int]) -> list[str]:
        self.batches.append(batch)
        gate = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        self.sent.set()
        await gate
        return [f"answer to {item}" for item in batch]

    async def on_the_wire(self) -> None:
        await self.sent.wait()
        self.sent.clear()

    def deliver(self, error: BaseException | None = None) -> None:
        gate = self._gates.pop(0)
        gate.set_result(None) if error is None else gate.set_exception(error)


def submit(group: GroupCommit[int, str], *items: int) -> list[asyncio.Future[str]]:
    return [group.submit(item) for item in items]


async def test_at_idle_a_batch_is_one_item_and_leaves_at_once():
    wire = Wire()
    group = GroupCommit(wire.send)
    (one,) = submit(group, 1)
    await wire.on_the_wire()
    assert wire.batches == [[1]]
    wire.deliver()
    assert await one == "answer to 1"


async def test_what_arrives_while_a_batch_is_on_the_wire_travels_together_in_the_next_one():
    wire = Wire()
    group = GroupCommit(wire.send)
    first = submit(group, 1)
    await wire.on_the_wire()
    later = submit(group, 2, 3, 4)
    await asyncio.sleep(0)
    wire.deliver()
    await wire.on_the_wire()
    assert wire.batches == [[1], [2, 3, 4]]
    wire.deliver()
    assert await asyncio.gather(*first, *later) == [f"answer to {item}" for item in (1, 2, 3, 4)]


async def test_a_batch_has_no_more_than_its_most():
    wire = Wire()
    group = GroupCommit(wire.send, most=2)
    tasks = submit(group, 1, 2, 3, 4, 5)
    for _ in range(3):
        await wire.on_the_wire()
        wire.deliver()
    assert wire.batches == [[1, 2], [3, 4], [5]]
    assert await asyncio.gather(*tasks) == [f"answer to {item}" for item in (1, 2, 3, 4, 5)]


async def test_an_exception_reaches_every_caller_of_its_batch_and_no_other():
    wire = Wire()
    group = GroupCommit(wire.send)
    first = submit(group, 1)
    await wire.on_the_wire()
    failing = submit(group, 2, 3)
    await asyncio.sleep(0)
    wire.deliver()
    await wire.on_the_wire()
    after = submit(group, 4)
    await asyncio.sleep(0)
    wire.deliver(OSError("the wire broke"))
    await wire.on_the_wire()
    wire.deliver()
    results = await asyncio.gather(*first, *failing, *after, return_exceptions=True)
    assert [type(result) for result in results] == [str, OSError, OSError, str]


async def test_a_cancelled_caller_does_not_disturb_its_neighbours():
    wire = Wire()
    group = GroupCommit(wire.send)
    tasks = submit(group, 1, 2, 3)
    await wire.on_the_wire()
    tasks[1].cancel()
    await asyncio.sleep(0)
    wire.deliver()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == "answer to 1"
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2] == "answer to 3"


async def test_a_caller_cancelled_before_an_exception_arrives_leaves_no_unretrieved_error():
    wire = Wire()
    group = GroupCommit(wire.send)
    tasks = submit(group, 1)
    await wire.on_the_wire()
    tasks[0].cancel()
    await asyncio.sleep(0)
    wire.deliver(OSError())
    await group.aclose()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_it_starts_again_after_it_was_idle():
    wire = Wire()
    group = GroupCommit(wire.send)
    for item in (1, 2):
        (task,) = submit(group, item)
        await wire.on_the_wire()
        wire.deliver()
        assert await task == f"answer to {item}"
    assert wire.batches == [[1], [2]]


async def test_closing_waits_until_all_that_was_submitted_is_answered():
    wire = Wire()
    group = GroupCommit(wire.send)
    tasks = submit(group, 1)
    await wire.on_the_wire()
    tasks += submit(group, 2)
    await asyncio.sleep(0)
    closing = asyncio.create_task(group.aclose())
    wire.deliver()
    await wire.on_the_wire()
    assert not closing.done()
    wire.deliver()
    await closing
    assert all(task.done() for task in tasks)


async def test_an_exception_as_an_answer_reaches_its_own_caller_alone():
    async def send(batch: list[int]) -> list[str | Exception]:
        return [ValueError(str(item)) if item % 2 else "even" for item in batch]

    results = await asyncio.gather(*submit(GroupCommit(send), 1, 2, 3), return_exceptions=True)
    assert [str(result) for result in results] == ["1", "even", "3"]


async def test_closing_within_a_time_cancels_what_is_on_the_wire_and_what_waits():
    silent = asyncio.Event()
    on_the_wire = asyncio.Event()

    async def send(batch: list[int]) -> list[str]:
        on_the_wire.set()
        await silent.wait()
        return ["answer"]

    group = GroupCommit(send)
    tasks = submit(group, 1)
    await on_the_wire.wait()
    tasks += submit(group, 2)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await group.aclose(within=0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        silent.set()
        assert await group.submit(3) == "answer"
    assert {type(result) for result in results} == {asyncio.CancelledError}


async def test_closing_when_nothing_was_ever_submitted_returns():
    await GroupCommit(Wire().send).aclose()


class Starter:
    """A `begin` whose answers the test gives."""

    def __init__(self, *, within: float = 60) -> None:
        self.begun: list[int] = []
        self.told: list = []
        self.given_up: list[int] = []
        self.free = True
        self.within = within

    def begin(self, item: int, told) -> Begun | None:
        if not self.free:
            return None
        self.begun.append(item)
        self.told.append(told)

        def give_up() -> None:
            self.given_up.append(item)
            told(TimeoutError("gave no answer"))

        return Begun(asyncio.get_running_loop().time() + self.within, give_up)

    async def has_begun(self, *items: int) -> None:
        async with asyncio.timeout(30):
            while self.begun != list(items):
                await asyncio.sleep(0)


async def test_an_item_that_is_alone_is_begun_in_the_same_step():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    for item in (1, 2):
        (task,) = submit(group, item)
        await asyncio.sleep(0)  # the step in which the task begins
        assert starter.begun[-1] == item
        starter.told[-1](f"told {item}")
        assert await task == f"told {item}"
    assert wire.batches == []
    await group.aclose()


async def test_what_comes_while_an_item_is_begun_goes_together():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    tasks = submit(group, 1, 2, 3)
    await starter.has_begun(1)
    starter.told[0]("told 1")
    await wire.on_the_wire()
    wire.deliver()
    assert await asyncio.gather(*tasks) == ["told 1", "answer to 2", "answer to 3"]
    assert wire.batches == [[2, 3]]
    await group.aclose()


async def test_after_many_at_once_the_next_are_waited_for_until_one_was_alone():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    tasks = submit(group, 1, 2, 3)
    await starter.has_begun(1)
    starter.told[0]("told 1")
    await wire.on_the_wire()
    wire.deliver()
    await asyncio.gather(*tasks)
    (alone,) = submit(group, 4)
    await wire.on_the_wire()
    wire.deliver()
    assert await alone == "answer to 4"
    (task,) = submit(group, 5)
    await starter.has_begun(1, 5)
    starter.told[1]("told 5")
    assert await task == "told 5"
    assert wire.batches == [[2, 3], [4]]
    await group.aclose()


async def test_what_cannot_be_begun_is_sent():
    wire, starter = Wire(), Starter()
    starter.free = False
    group = GroupCommit(wire.send, begin=starter.begin)
    (task,) = submit(group, 1)
    await wire.on_the_wire()
    wire.deliver()
    assert await task == "answer to 1"


async def test_what_was_begun_and_not_taken_is_sent_first():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    tasks = submit(group, 1, 2)
    await starter.has_begun(1)
    starter.told[0](SEND)
    await wire.on_the_wire()
    wire.deliver()
    assert await asyncio.gather(*tasks) == ["answer to 1", "answer to 2"]
    assert wire.batches == [[1, 2]]
    await group.aclose()


async def test_an_exception_that_is_told_is_raised_to_its_caller_alone():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    tasks = submit(group, 1, 2)
    await starter.has_begun(1)
    starter.told[0](OSError("the wire broke"))
    await wire.on_the_wire()
    wire.deliver()
    broken, answer = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(broken, OSError)
    assert answer == "answer to 2"
    await group.aclose()


async def test_a_caller_that_is_cancelled_leaves_the_way_to_those_that_wait():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    gone, waits = submit(group, 1, 2)
    await starter.has_begun(1)
    gone.cancel()
    await asyncio.wait({gone})
    assert wire.batches == [], "what it began is still on its way"
    starter.told[0]("told 1")
    await wire.on_the_wire()
    wire.deliver()
    assert await waits == "answer to 2"
    await group.aclose()


async def test_an_answer_that_does_not_come_is_given_up_once_and_may_come_late():
    wire, starter = Wire(), Starter(within=0.01)
    group = GroupCommit(wire.send, begin=starter.begin)
    (task,) = submit(group, 1)
    with pytest.raises(TimeoutError, match="gave no answer"):
        await task
    assert starter.given_up == [1]
    starter.within = 60
    (task,) = submit(group, 2)
    await starter.has_begun(1, 2)
    starter.told[0]("told 1, late")
    assert not task.done()
    starter.told[1]("told 2")
    assert await task == "told 2"
    await group.aclose()


async def test_closing_waits_for_what_was_begun():
    wire, starter = Wire(), Starter()
    group = GroupCommit(wire.send, begin=starter.begin)
    tasks = submit(group, 1, 2)
    await starter.has_begun(1)
    closing = asyncio.create_task(group.aclose())
    await asyncio.sleep(0)
    starter.told[0]("told 1")
    await wire.on_the_wire()
    assert not closing.done()
    wire.deliver()
    await closing
    assert await asyncio.gather(*tasks) == ["told 1", "answer to 2"]


async def test_two_may_close_at_once_while_an_item_is_begun():
    starter = Starter()
    group = GroupCommit(Wire().send, begin=starter.begin)
    (task,) = submit(group, 1)
    await starter.has_begun(1)
    closing = [asyncio.create_task(group.aclose()) for _ in range(2)]
    await asyncio.sleep(0)
    starter.told[0]("told 1")
    async with asyncio.timeout(30):
        await asyncio.gather(*closing)
    assert await task == "told 1"


async def test_closing_waits_for_what_is_begun_meanwhile():
    starter = Starter()
    group = GroupCommit(Wire().send, begin=starter.begin)

    async def one_after_the_other() -> list[str]:
        return [await group.submit(item) for item in (1, 2)]

    task = asyncio.create_task(one_after_the_other())
    await starter.has_begun(1)
    closing = asyncio.create_task(group.aclose())
    await asyncio.sleep(0)
    starter.told[0]("told 1")
    await starter.has_begun(1, 2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    starter.told[1]("told 2")
    await closing
    assert await task == ["told 1", "told 2"]


async def test_closing_within_a_time_gives_up_what_was_begun():
    starter = Starter()
    group = GroupCommit(Wire().send, begin=starter.begin)
    (task,) = submit(group, 1)
    await starter.has_begun(1)
    async with asyncio.timeout(10):
        await group.aclose(within=0)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert starter.given_up == [1]

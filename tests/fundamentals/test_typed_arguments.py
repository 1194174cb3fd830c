"""Arguments and results are what the annotations say, on the other machine too."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest
from pydantic import BaseModel

from common import NEVER, Call, Context, task
from common.errors import NotSerializable, TaskFailed


class Size(Enum):
    SMALL = "S"
    LARGE = "L"


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal
    size: Size = Size.SMALL


class Receipt(BaseModel):
    total: Decimal
    paid_at: datetime


@task
async def sell(ctx: Context, items: list[Item], *, at: datetime, into: Path = Path("shop")) -> Receipt:
    assert isinstance(into, Path)
    assert all(isinstance(item, Item) and isinstance(item.size, Size) for item in items)
    return Receipt(total=sum((item.price for item in items), Decimal(0)), paid_at=at)


@task(retry=NEVER)
async def double(ctx: Context, number: int) -> int:
    return 2 * number


@task
async def echo(ctx: Context, *values: object, **named: object) -> list[object]:
    return [*values, named]


NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


async def test_dataclasses_models_enums_dates_and_decimals_arrive_as_themselves(producer, run_worker):
    await run_worker(sell)
    job = await producer.enqueue(
        sell([Item("tea", Decimal("2.50")), Item("cup", Decimal("7.25"), Size.LARGE)], at=NOON)
    )
    assert await job.result(timeout=10) == Receipt(total=Decimal("9.75"), paid_at=NOON)


async def test_a_wrong_argument_fails_the_job_before_the_task_runs_and_is_named(producer, run_worker):
    await run_worker(double)
    job = await producer.enqueue(double("2"))  # type: ignore[arg-type]  # a type checker would have said so
    with pytest.raises(TaskFailed, match="ArgumentMismatch: double: argument number: Expected `int`, got `str`"):
        await job.result(timeout=10)


async def test_a_missing_argument_is_told_where_it_was_forgotten():
    with pytest.raises(TypeError, match=r"^[a-z_.]+: missing a required argument: 'number'"):
        double()  # type: ignore[call-arg]


async def test_and_by_the_worker_to_those_who_call_by_name(producer, run_worker):
    await run_worker(double)
    job = await producer.enqueue(Call("double"))
    with pytest.raises(TaskFailed, match="double: argument number is missing"):
        await job.result(timeout=10)


async def test_any_number_of_arguments(producer, run_worker):
    await run_worker(echo)
    job = await producer.enqueue(echo(1, "two", three=[3.0, None]))
    assert await job.result(timeout=10) == [1, "two", {"three": [3.0, None]}]


async def test_what_cannot_travel_is_refused_at_once(producer):
    with pytest.raises(NotSerializable, match=r"echo: argument 0 is of type builtins.object"):
        await producer.enqueue(echo(object()))

"""common/arguments.py: a job's arguments against the task's annotations."""

import dataclasses
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest
from pydantic import BaseModel

from common.arguments import ArgumentReader, return_reader
from common.context import Context
from common.errors import ArgumentMismatch, ConfigurationError
from common.values import encode

SECRET = "hunter2-hunter2"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Cat(BaseModel):
    meow: int


class Dog(BaseModel):
    bark: int


def read(function, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ArgumentReader(function, "task").read(encode(list(args)), encode(kwargs))


def bound(function, *args: Any, **kwargs: Any) -> Any:
    """Return what the function receives."""
    positional, named = read(function, *args, **kwargs)
    return function(None, *positional, **named)


def typed(ctx: Context, when: datetime, place: Point, kind: Literal["a", "b"] = "a"):
    return when, place, kind


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((NOON, Point(1, 2)), {}),
        ((NOON, Point(1, 2), "a"), {}),
        ((NOON,), {"place": Point(1, 2)}),
        ((), {"when": NOON, "place": Point(1, 2), "kind": "a"}),
    ],
)
def test_positional_or_by_name_arguments_arrive_typed(args, kwargs):
    assert bound(typed, *args, **kwargs) == (NOON, Point(1, 2), "a")


def test_variadic_and_keyword_only_arguments():
    def task(ctx: Context, first: int, /, *rest: Point, flag: bool = False, **named: datetime):
        return first, rest, flag, named

    assert bound(task, 1, Point(1), Point(2), flag=True, when=NOON) == (1, (Point(1), Point(2)), True, {"when": NOON})
    assert bound(task, 1) == (1, (), False, {})
    # A positional-only name is free for **named, as in Python.
    assert bound(task, 1, first=NOON) == (1, (), False, {"first": NOON})


def test_a_mutable_default_is_the_functions_own_as_in_python():
    def task(ctx: Context, items: list[int] = [1], *, more: dict[str, int] = {}):  # noqa: B006
        return items, more

    items, more = bound(task)
    assert items is task.__defaults__[0]
    assert more is task.__kwdefaults__["more"]


def test_a_default_is_not_checked_against_its_annotation():
    def task(ctx: Context, items: list[int] = None):  # type: ignore[assignment]  # noqa: RUF013
        return items

    assert bound(task) is None


def test_a_task_without_annotations_takes_anything():
    def task(ctx, a, b=2):
        return a, b

    assert bound(task, {"x": [1]}) == ({"x": [1]}, 2)


def test_a_task_without_arguments():
    def task(ctx: Context): ...

    assert read(task) == ((), {})
    with pytest.raises(ArgumentMismatch, match=r"task: takes 0 positional argument\(s\), got 1"):
        read(task, 1)


def test_a_union_of_two_models_is_told_apart():
    def task(ctx: Context, pet: Cat | Dog, *, other: Cat | Dog | None = None):
        return pet, other

    assert bound(task, Dog(bark=1), other=Cat(meow=2)) == (Dog(bark=1), Cat(meow=2))
    with pytest.raises(ArgumentMismatch, match=r"^task: argument pet: Cat.meow: Field required; Dog.bark: "):
        read(task, {"purr": 1})


def test_names_that_msgspec_reserves_can_be_arguments():
    def task(ctx: Context, __struct_fields__: int, self: int):
        return __struct_fields__, self

    assert bound(task, 1, 2) == (1, 2)


def three(ctx: Context, a: int, b: Point, *, c: list[Point] | None = None): ...


def only_positional(ctx: Context, a: int, b: Point, c: int = 0): ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "message"),
    [
        (three, (1,), {}, "task: argument b is missing"),
        (three, (), {"b": Point(1)}, "task: argument a is missing"),
        (three, (1, Point(1), 3), {}, "task: takes 2 positional argument(s), got 3"),
        (three, (1, Point(1)), {"b": Point(1)}, "task: argument b is given twice"),
        (three, (1, Point(1)), {"d": 1}, "task: no argument is called 'd'; it takes: a, b, c"),
        (three, ("1", Point(1)), {}, "task: argument a: Expected `int`, got `str`"),
        (three, (1, {"x": "1"}), {}, "task: argument b.x: Expected `int`, got `str`"),
        (three, (1, Point(1)), {"c": [{"x": 1}, {"y": 1}]}, "task: argument c[1]: Object missing required field `x`"),
        (only_positional, (1,), {}, "task: argument b is missing"),
        (only_positional, (1, Point(1), 2, 3), {}, "task: takes 3 positional argument(s), got 4"),
        (only_positional, ("1", Point(1)), {}, "task: argument a: Expected `int`, got `str`"),
        (only_positional, (1, {"x": "1"}), {}, "task: argument b.x: Expected `int`, got `str`"),
        (only_positional, (1, Point(1)), {"c": "x"}, "task: argument c: Expected `int`, got `str`"),
        (only_positional, (1, Point(1)), {"a": 2}, "task: argument a is given twice"),
    ],
)
def test_a_mismatch_names_the_argument_and_the_path_in_it(function, args, kwargs, message):
    with pytest.raises(ArgumentMismatch) as raised:
        read(function, *args, **kwargs)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("positional", "keyword"),
    [
        (b"\x01", b"\x80"),
        (b"\x80", b"\x80"),
        (b"\x90", b"\x90"),
        (b"\x90", b"\x81\x01\x01"),
        (b"", b"\x80"),
        (b"\x92\x01", b"\x80"),
        (b"\x91\xa1\xff", b"\x80"),
        (b"\x91" * 100_000, b"\x80"),
        (b"\x90", b"\x81\xa1\xff\x01"),
    ],
)
def test_foreign_bytes_are_a_mismatch_and_nothing_else(positional, keyword):
    def named(ctx: Context, a: Any = 1, *rest: Any, **more: Any): ...

    for function in (only_positional, three):
        with pytest.raises(ArgumentMismatch, match=r"^task: "):
            ArgumentReader(function, "task").read(positional, keyword)


@pytest.mark.parametrize("function", [three, only_positional, typed])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((SECRET, SECRET), {}),
        ((1, SECRET), {}),
        ((NOON, Point(1), SECRET), {}),
        ((1, {"x": SECRET}), {}),
        ((1, Point(1)), {"c": [SECRET]}),
        ((SECRET,) * 9, {}),
    ],
)
def test_a_value_never_appears_in_an_error(function, args, kwargs):
    with pytest.raises(ArgumentMismatch) as raised:
        read(function, *args, **kwargs)
    assert SECRET not in str(raised.value)


def test_a_type_that_raises_while_it_is_made_names_its_argument():
    @dataclasses.dataclass
    class Picky:
        name: str

        def __post_init__(self) -> None:
            raise KeyError(self.name)

    def task(ctx: Context, a: int, b: Picky): ...

    task.__annotations__ = {"a": int, "b": Picky}
    with pytest.raises(ArgumentMismatch) as raised:
        read(task, 1, {"name": SECRET})
    assert str(raised.value) == "task: argument b: making it raised KeyError"


def test_an_annotation_that_cannot_be_resolved_is_a_mistake_of_the_task():
    def task(ctx: Context, a: "Missing"): ...  # noqa: F821

    with pytest.raises(
        ConfigurationError, match=r"task 'task': an annotation cannot be resolved .*'Missing'.*TYPE_CHECKING"
    ):
        ArgumentReader(task, "task")


@pytest.mark.parametrize("function", [lambda: 1, lambda *, ctx: 1, lambda *args: 1])
def test_a_task_whose_first_parameter_is_no_context_is_refused(function):
    with pytest.raises(ConfigurationError, match="first parameter must be the context"):
        ArgumentReader(function, "task")


def test_a_result_is_read_as_the_return_annotation_says():
    def typed_result(ctx: Context) -> list[Point]: ...
    def nothing(ctx: Context) -> None: ...
    def unknown(ctx: Context): ...

    assert return_reader(typed_result, "t").read(encode([Point(1)]), "the result") == [Point(1)]
    assert return_reader(nothing, "t").read(encode(None), "the result") is None
    assert return_reader(unknown, "t").read(encode({"a": 1}), "the result") == {"a": 1}
    with pytest.raises(ArgumentMismatch, match="the result: Expected `null`"):
        return_reader(nothing, "t").read(encode(1), "the result")


def test_raw_parts_of_a_larger_decoder_are_taken_as_they_are():
    parts = msgspec.msgpack.decode(encode({"a": [1, Point(2)], "k": {}}), type=dict[str, msgspec.Raw])
    assert ArgumentReader(only_positional, "t").read(parts["a"], parts["k"]) == ((1, Point(2), 0), {})

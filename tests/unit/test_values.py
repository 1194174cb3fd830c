# ruff: noqa: UP007, UP045 - users write both forms, and both must be read
"""common/values.py: Python values become bytes, and typed values again."""

import contextlib
import dataclasses
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Optional, Protocol, TypedDict, Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from common.errors import ArgumentMismatch, NotSerializable
from common.values import ValueReader, encode, to_plain

SECRET = "hunter2-hunter2"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Box(msgspec.Struct):
    corner: Point
    label: str = ""


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Address(BaseModel):
    street: str
    number: int = Field(ge=1)


class Person(BaseModel):
    name: str
    addresses: list[Address]


class Company(BaseModel):
    vat: str


@dataclasses.dataclass
class Order:
    buyer: Person
    when: datetime


class Options(TypedDict, total=False):
    depth: int


class Pair(NamedTuple):
    left: int
    right: str


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float


PERSON = Person(name="Ada", addresses=[Address(street="Long Lane", number=1)])
NOON = datetime(2026, 1, 2, 12, 30, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 5),
        (float, 2.5),
        (float, 3),
        (bool, True),
        (str, "ü€😀"),
        (bytes, b"\x00\xff"),
        (None, None),
        (datetime, NOON),
        (datetime, datetime(2026, 1, 2, 3, 4)),  # noqa: DTZ001 - one without a zone stays so
        (date, date(2026, 1, 2)),
        (time, time(3, 4, 5)),
        (timedelta, timedelta(hours=1, microseconds=3)),
        (uuid.UUID, uuid.UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Colour, Colour.RED),
        (Level, Level.HIGH),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"a"})),
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (dict[str, list[int]], {"a": [1]}),
        (dict[int, str], {1: "a"}),
        (Path, Path("a/b.txt")),
        (list[PurePosixPath], [PurePosixPath("/a")]),
        (Point, Point(1, 2)),
        (Box, Box(Point(1, 2), "b")),
        (Person, PERSON),
        (list[Person], [PERSON]),
        (dict[str, Person], {"a": PERSON}),
        (Order, Order(PERSON, NOON)),
        (Options, {"depth": 3}),
        (Pair, Pair(1, "a")),
        (Literal["a", "b"], "b"),
        (Optional[int], None),
        (Optional[int], 4),
        (Union[int, str], "4"),
        (int | None | str, 4),
        (Optional[Person], PERSON),
        (Circle | Square, Square(2.0)),
        (Union[Person, Company], Company(vat="X1")),
        (Union[Person, Company], PERSON),
        (list[Person | Company], [PERSON, Company(vat="X1")]),
        (Annotated[int, msgspec.Meta(ge=0)], 4),
        (Any, {"a": [1, None, "x"]}),
        (Sequence[int], [1]),
        (Mapping[str, int], {"a": 1}),
        (Iterable[int], [1]),
        (Iterable, [1, "a"]),
        (Iterable[Person], [PERSON]),
    ],
    ids=repr,
)
def test_a_value_comes_back_as_its_annotation_says(annotation, value):
    assert ValueReader(annotation).read(encode(value), "x") == value
    back = ValueReader(annotation).read(encode(value), "x")
    if annotation is not float:
        assert type(back) is type(value)


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(plain)
def test_plain_data_round_trips(value):
    assert to_plain(encode(value)) == value


@given(st.datetimes(timezones=st.just(UTC)), st.uuids(), st.decimals(allow_nan=False))
def test_typed_scalars_round_trip(when, key, amount):
    assert ValueReader(datetime).read(encode(when), "x") == when
    assert ValueReader(uuid.UUID).read(encode(key), "x") == key
    assert ValueReader(Decimal).read(encode(amount), "x") == amount


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "5", "x: Expected `int`, got `str`"),
        (str, 5, "x: Expected `str`, got `int`"),
        (int, None, "x: Expected `int`, got `None`"),
        (list[int], [1, "2"], "x[1]: Expected `int`"),
        (dict[str, int], {"a": "b"}, "x[...]: Expected `int`"),
        (Point, {"y": 1}, "x: Object missing required field `x`"),
        (Box, {"corner": {"x": "1"}}, "x.corner.x: Expected `int`"),
        (Person, {"name": "A", "addresses": [{"street": "s", "number": 0}]}, "addresses.0.number"),
        (list[Person], [{"name": "A"}], "x[0]: addresses: Field required"),
        (Order, {"buyer": {"name": 1, "addresses": []}, "when": NOON}, "x.buyer: name"),
        (Union[Person, Company], {"nothing": 1}, "x: "),
        (Strict, {"a": 1, "b": 2}, "x: Object contains unknown field `b`"),
        (Path, 5, "Path"),
        (Annotated[int, msgspec.Meta(ge=10)], 4, ">= 10"),
        (tuple[int, int], [1], "x: Expected `array` of length 2"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_mismatch_names_the_value_and_the_path_in_it(annotation, value, message):
    with pytest.raises(ArgumentMismatch) as raised:
        ValueReader(annotation).read(encode(value), "x")
    assert message in str(raised.value)
    assert str(raised.value).startswith("x")


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        bool,
        bytes,
        datetime,
        date,
        timedelta,
        uuid.UUID,
        Decimal,
        Colour,
        Level,
        Literal["a", "b"],
        Literal["a", 1],
        Path | int,
        list[str],
        Point,
        Person,
        Union[Person, Company],
        Circle | Square,
        Annotated[str, msgspec.Meta(pattern="^a")],
        Annotated[str, msgspec.Meta(max_length=3)],
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda value: value,
        lambda value: {"type": value},
        lambda value: {"x": value, "name": value, "addresses": value, "vat": [value]},
        lambda value: [value],
    ],
    ids=["bare", "tag", "fields", "list"],
)
def test_a_value_never_appears_in_an_error(annotation, shape):
    reader = ValueReader(annotation)
    for value in (SECRET, f"{SECRET} - at `$.{SECRET}`", f"' - at `$.{SECRET}"):
        error = refusal(reader, shape(value))
        if error is not None:
            assert SECRET not in str(error)
            assert error.__cause__ is None
            assert error.__suppress_context__, "a traceback would show what it was made from"


def refusal(reader: ValueReader, value: Any) -> ArgumentMismatch | None:
    try:
        reader.read(encode(value), "x")
    except ArgumentMismatch as error:
        return error
    return None


def test_a_type_that_raises_while_it_is_made_is_a_mismatch_that_keeps_the_value_to_itself():
    @dataclasses.dataclass
    class Picky:
        name: str

        def __post_init__(self) -> None:
            raise KeyError(self.name)

    with pytest.raises(ArgumentMismatch, match="KeyError") as raised:
        ValueReader(Picky).read(encode({"name": SECRET}), "x")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", b"\x91", b"\xa3a", b"\xa1\xff", b"\x91\xa1\xff", b"\x91" * 100_000, b"\x81\x80\x01", b"\x01\x01"],
)
@pytest.mark.parametrize("annotation", [Any, list[str], Person, Union[Person, Company]], ids=repr)
def test_bytes_that_are_no_msgpack_are_a_mismatch_and_nothing_else(raw, annotation):
    with pytest.raises(ArgumentMismatch, match=r"^x"):
        ValueReader(annotation).read(raw, "x")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_mismatch(raw):
    for reader in (ANYTHING, PEOPLE):
        with contextlib.suppress(ArgumentMismatch):
            reader.read(raw, "x")


ANYTHING = ValueReader(Any)
PEOPLE = ValueReader(dict[str, list[Person]])


def test_an_annotation_nothing_can_check_accepts_anything():
    class Quacks(Protocol):
        def quack(self) -> None: ...

    assert ValueReader(Quacks).read(encode({"a": 1}), "x") == {"a": 1}


def cyclic() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (object(), "value is of type builtins.object"),
        ({"a": [1, {"b": object()}]}, "value['a'][1]['b'] is of type builtins.object"),
        ([1, {object}], "value[1][0] is of type builtins.type"),
        (Point(object(), 1), "value.x is of type builtins.object"),
        (Box(Point(1, lambda: 1)), "value.corner.y is of type builtins.function"),
        (2**64, "value is an integer past 64 bits"),
        ({"n": -(2**63) - 1}, "value['n'] is an integer past 64 bits"),
        (["\ud800"], "value[0] is of type builtins.str"),
        (cyclic(), "holds itself"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_has_no_form_on_the_wire_is_named_with_its_path(value, part):
    with pytest.raises(NotSerializable) as raised:
        encode(value)
    assert part in str(raised.value)


def test_a_values_own_text_is_not_in_the_error():
    class Opaque:
        def __repr__(self) -> str:
            return SECRET

    with pytest.raises(NotSerializable) as raised:
        encode({"password": Opaque()})
    assert SECRET not in str(raised.value)
    assert "Opaque" in str(raised.value)

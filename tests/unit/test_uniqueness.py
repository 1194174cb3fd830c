"""common/uniqueness.py: what a key is made of, and under which name the server knows it."""

import inspect
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigurationError, NotSerializable
from common.uniqueness import Debounce, Throttle, Unique, check_key, digest_of, key_of


async def page(ctx, url, depth=0, *rest, tag=None, **more): ...


SIGNATURE = inspect.signature(page)


def keyed(key, *args, **kwargs):
    return key_of(Unique(key=key), SIGNATURE, args, kwargs)


def test_all_arguments_are_known_by_name_with_their_defaults():
    assert keyed(None, "u") == {"url": "u", "depth": 0, "rest": (), "tag": None, "more": {}}
    assert keyed(None, depth=0, url="u") == keyed(None, "u")


def test_one_several_or_what_a_function_makes_of_them():
    assert keyed("url", "u", 5) == "u"
    assert keyed(("url", "depth"), "u") == ["u", 0]
    assert keyed("rest", "u", 5, 6, 7) == (6, 7)
    assert keyed("more", "u", a=1) == {"a": 1}
    assert keyed(lambda url, **_: url.upper(), "u", tag="t") == "U"


def test_a_key_is_the_same_in_any_order_of_maps_and_sets():
    one = {"b": {3, 1, 2}, "a": {"y": 1, "x": 2}}
    other = {"a": {"x": 2, "y": 1}, "b": {2, 3, 1}}
    assert digest_of("t", one) == digest_of("t", other)


def test_a_dataclass_is_the_same_as_its_data():
    @dataclass
    class Place:
        city: str
        area: int

    assert digest_of("t", Place("Oslo", 5)) == digest_of("t", {"area": 5, "city": "Oslo"})


def test_tasks_and_values_that_differ_have_keys_that_differ():
    values = [
        None,
        0,
        1,
        1.5,
        "",
        "1",
        b"1",
        [1],
        [1, 2],
        [[1], 2],
        {"a": 1},
        {"b": 1},
        datetime.now(tz=UTC),
        UUID(int=1),
    ]
    names = ["t", "u", "t1", "", "\udcff"]
    digests = {digest_of(name, value) for name in names for value in values}
    assert len(digests) == len(names) * len(values)


@given(st.text(max_size=2000), st.recursive(st.integers(0, 9) | st.text(), st.lists, max_leaves=30))
def test_a_name_is_short_and_plain_whatever_the_key_is(task, key):
    assert len(digest := digest_of(task, key)) == 32
    assert set(digest) <= set("0123456789abcdef")


def test_what_cannot_travel_is_named():
    with pytest.raises(NotSerializable, match=r"t: the unique key\['a'\] is of type builtins.object"):
        digest_of("t", {"a": object()})


def test_names_are_held_against_the_task_when_it_is_registered():
    for key in (None, "url", ["url", "tag"], lambda url: url):
        check_key(Unique(key=key), SIGNATURE, "page")
    with pytest.raises(
        ConfigurationError, match=r"Debounce\(key='ctx'\): the task 'page' has no argument .*: url, depth"
    ):
        check_key(Debounce(5, key="ctx"), SIGNATURE, "page")


def test_the_rules_are_what_the_declarations_say():
    assert Unique(for_=2, until=None).rule == ("time", 2000, "return", 0, 0)
    assert Unique(until="started", on_conflict="replace").rule == ("started", 0, "replace", 0, 0)
    assert Debounce(2, at_most=5).rule == ("started", 0, "replace", 2000, 5000)
    assert Throttle(2).rule == ("time", 2000, "return", 0, 0)
    assert Throttle(2, trailing=True).rule == ("time", 2000, "trail", 0, 0)

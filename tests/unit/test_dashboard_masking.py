"""dashboard/security/masking.py: what of jobs is shown, by each of the three rules."""

import json
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import task
from dashboard.security.masking import HIDDEN, MASK, Masking
from dashboard.settings import DashboardSettings


def masking(**rules) -> Masking:
    return Masking(DashboardSettings(**rules))


class TestByKey:
    @pytest.mark.parametrize(
        "key",
        [
            "password", "PASSWORD", "db_password", "passwd", "pwd", "secret", "client_secret", "token", "access_token",
            "Authorization", "api_key", "apiKey", "x-api-key", "private_key", "credentials", "cookie", "session_id",
            "card_number", "pass",
        ],
    )  # fmt: skip
    def test_what_is_called_like_a_secret_is_masked_however_deep(self, key):
        shown = masking().value({"user": "ann", "deep": [{key: "hunter2"}], key: ["hunter2"]})
        assert "hunter2" not in str(shown)
        assert (shown["user"], shown[key]) == ("ann", MASK)

    @pytest.mark.parametrize("key", ["passenger", "compass", "keyboard", "url", "sessions"])
    def test_what_only_sounds_alike_is_not(self, key):
        assert masking().named({key: "here"}) == {key: "here"}

    def test_the_pattern_is_the_users(self):
        rule = masking(mask="colou?r")
        assert rule.named({"Color": 1, "password": 2}) == {"Color": MASK, "password": 2}

    def test_all_shows_all(self):
        assert masking(arguments="all").named({"password": "x"}) == {"password": "x"}

    def test_none_shows_nothing_but_names(self):
        rule = masking(arguments="none")
        assert rule.named({"password": "x", "user": "y"}) == {"password": HIDDEN, "user": HIDDEN}
        assert (rule.value(5), rule.text("boom"), rule.text("")) == (HIDDEN, HIDDEN, "")
        assert rule.arguments("any", [1, 2]) == [HIDDEN, HIDDEN]


class TestPositionalArguments:
    def test_they_have_the_names_of_the_parameters_where_the_task_is_known(self):
        @task(name="sign_in_for_masking")
        async def sign_in(ctx, user: str, password: str, *more: str) -> None: ...

        shown = masking().arguments("sign_in_for_masking", ["ann", "hunter2", "x", "y"])
        assert shown == ["ann", MASK, "x", "y"]
        assert masking().arguments("sign_in_for_masking", ["ann"]) == ["ann"]

    def test_of_a_task_that_is_not_known_they_have_none(self):
        assert masking().arguments("no_such_task", ["ann", "x"]) == ["ann", "x"]


class TestInTexts:
    @pytest.mark.parametrize(
        "text",
        [
            "login failed: password=hunter2",
            "login failed: password = 'hunter2 and more'",
            'sent {"api_key": "hunter2", "a": 1}',
            "Authorization: Bearer hunter2",
            "Authorization: hunter2, other",
            "?user=ann&access_token=hunter2&x=1",
            "redis://ann:hunter2@db.example:6379/0",
            "DB_PASSWORD_MAIN: hunter2",
            "password=hunter2\nnext line",
        ],
    )
    def test_what_stands_behind_such_a_key_is_masked(self, text):
        shown = masking().text(text)
        assert "hunter2" not in shown
        assert MASK in shown

    def test_what_stands_around_it_stays(self):
        assert masking().text("a token=x, b\nc") == f"a token={MASK}, b\nc"
        assert masking().text("the token is gone") == "the token is gone"

    @pytest.mark.parametrize(
        "text", ["a" * 400_000, "token" * 80_000, 'token="' * 60_000, "token = " * 50_000, "://" * 99_999]
    )
    def test_no_text_takes_more_than_its_length(self, text):
        # A pattern that looks back takes hours for these, and the test's own limit ends it.
        assert masking().text(text, whole=True)


class TestLength:
    def test_a_long_text_is_cut_and_says_by_how_much(self):
        shown = masking(longest_value=16).value("x" * 20)
        assert shown == "x" * 16 + "… (4 more characters)"

    def test_so_is_a_long_list_and_a_long_map(self):
        assert masking().value([0] * 1500)[-1] == "… 500 more"
        assert masking().value({str(n): n for n in range(1500)})["…"] == "500 more"

    def test_whole_is_whole(self):
        assert masking(longest_value=16).value(["x" * 20] * 1500, whole=True) == ["x" * 20] * 1500

    def test_a_secret_is_masked_before_the_cut_and_at_it(self):
        assert "hunt" not in masking(longest_value=16).text("password=hunter2 hunter2")


class TestAnyValue:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (2**70, str(2**70)),
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            (b"\xffabc", "\\xffabc"),
            ("\udcff", "\\udcff"),
            ({1: {2}}, {"1": [2]}),
            ({None: ()}, {"None": []}),
            (datetime(2030, 1, 31, tzinfo=UTC), "2030-01-31 00:00:00+00:00"),
            (UUID(int=1), str(UUID(int=1))),
        ],
    )
    def test_becomes_what_json_can_hold(self, value, shown):
        assert masking().value(value) == shown

    def test_one_that_is_nested_without_end_does_too(self):
        deep: list = []
        for _ in range(5000):
            deep = [deep]
        assert "(nested deeper)" in json.dumps(masking().value(deep))

    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    )

    @given(anything, st.sampled_from(["masked", "all", "none"]), st.booleans())
    def test_is_json_by_every_rule(self, value, rule, whole):
        assert msgspec.json.decode(msgspec.json.encode(masking(arguments=rule).value(value, whole=whole))) is not ...

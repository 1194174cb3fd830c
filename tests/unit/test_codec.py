"""common/codec.py: job and result bytes, and what of a stranger's bytes is believed."""

import asyncio
import json
import pickle

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.codec import Extras, Reading, decode_job, encode_job, is_pickle
from common.errors import NotSerializable, PickleRefused, Undecodable
from common.jobs import RemoteError
from common.result_codec import Result, decode_result, encode_result
from common.values import to_plain

PICKLES = Reading(accept_pickle=True)
JSON = Reading(serializer=lambda data: json.dumps(data).encode(), deserializer=json.loads)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), words, st.binary()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=10,
)
extras = st.one_of(
    st.none(),
    st.builds(
        Extras,
        timeout=st.one_of(st.none(), st.floats(0.001, 1e6)),
        meta=st.one_of(st.none(), st.dictionaries(words, plain)),
    ),
)


def a_result(**changes) -> Result:
    given = {
        "job_id": "j1", "task": "t", "queue": "q", "success": True, "value": {"a": 1}, "attempt": 2,
        "enqueued_ms": 1, "started_ms": 2, "finished_ms": 3, "outcome": "succeeded", "worker": "w",
    }  # fmt: skip
    return Result(**given | changes)


class TestJobs:
    @given(words, st.lists(plain, max_size=4), st.dictionaries(words, plain, max_size=4), st.integers(0, 2**53), extras)
    def test_a_job_round_trips(self, task, args, kwargs, enqueued_ms, extra):
        raw = encode_job(task, tuple(args), kwargs, enqueued_ms=enqueued_ms, extras=extra)
        payload = decode_job(raw)
        assert (payload.task, payload.enqueued_ms, payload.form) == (task, enqueued_ms, "msgpack")
        assert payload.as_objects() == (tuple(args), kwargs)
        assert (payload.extras or Extras()) == (extra or Extras())
        assert payload.job_try is None

    @given(st.lists(plain, max_size=3), st.dictionaries(words, plain, max_size=3), extras)
    def test_a_pickled_job_round_trips_where_pickles_are_accepted(self, args, kwargs, extra):
        raw = encode_job("t", tuple(args), kwargs, enqueued_ms=5, extras=extra, form="pickle")
        assert is_pickle(raw)
        payload = decode_job(raw, PICKLES)
        assert payload.form == "pickle"
        assert payload.as_objects() == (tuple(args), kwargs)
        assert (payload.extras or Extras()) == (extra or Extras())

    @given(st.lists(plain, max_size=20), st.dictionaries(words, plain, max_size=20), extras)
    def test_the_first_byte_tells_a_msgpack_job_from_a_pickle(self, args, kwargs, extra):
        raw = encode_job("t", tuple(args), kwargs, enqueued_ms=5, extras=extra)
        assert not is_pickle(raw)
        assert 0x85 <= raw[0] <= 0x8F or raw[0] in {0xDE, 0xDF}

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_every_protocol_of_pickle_is_refused_and_its_code_not_run(self, protocol, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (open, (str(tmp_path / "ran"), "w"))

        raw = pickle.dumps({"t": None, "f": "t", "a": (Bomb(),), "k": {}, "et": 1}, protocol=protocol)
        with pytest.raises(PickleRefused, match="BARQUE_ACCEPT_PICKLE=true"):
            decode_job(raw)
        with pytest.raises(PickleRefused):
            decode_result(raw)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("protocol", [0, 1])
    def test_a_pickle_too_old_to_be_told_by_its_first_byte_is_not_run_either(self, protocol):
        with pytest.raises(Undecodable):
            decode_job(pickle.dumps({"f": "t"}, protocol=protocol))

    def test_what_arq_writes_is_read_whatever_else_stands_beside(self):
        raw = msgspec.msgpack.encode({"t": 3, "f": "t", "a": [1], "k": {"b": 2}, "et": 9, "zzz": [1]})
        payload = decode_job(raw)
        assert (payload.task, payload.job_try, payload.enqueued_ms, payload.extras) == ("t", 3, 9, None)

    def test_a_users_own_serializer_is_used_for_all_that_is_read(self):
        raw = json.dumps({"t": None, "f": "t", "a": [1], "k": {"b": 2}, "et": 9}).encode()
        payload = decode_job(raw, JSON)
        assert payload.form == "custom"
        assert payload.as_objects() == ((1,), {"b": 2})
        with pytest.raises(Undecodable):
            decode_job(encode_job("t", (), {}, enqueued_ms=1), JSON)

    @pytest.mark.parametrize("timeout", [float("nan"), float("inf"), float("-inf"), 0, -1.0, 1e10])
    @pytest.mark.parametrize("form", ["msgpack", "pickle"])
    def test_a_timeout_that_is_no_time_is_refused_it_would_stop_all_deadlines_of_its_worker(self, form, timeout):
        raw = encode_job("t", (), {}, enqueued_ms=1, extras=Extras(timeout=timeout), form=form)
        with pytest.raises(Undecodable, match="timeout"):
            decode_job(raw, PICKLES)

    def test_objects_of_a_pickle_become_msgpack_where_they_have_such_a_form(self):
        typed = decode_job(encode_job("t", (1,), {}, enqueued_ms=1, form="pickle"), PICKLES)
        assert [to_plain(part) for part in typed.as_msgpack()] == [[1], {}]
        opaque = decode_job(encode_job("t", (object,), {}, enqueued_ms=1, form="pickle"), PICKLES)
        assert opaque.as_msgpack() is None

    @pytest.mark.parametrize(
        ("args", "kwargs", "part"),
        [
            ((1, object()), {}, "t: argument 1 is of type builtins.object"),
            ((), {"key": [object()]}, "t: argument key[0] is of type builtins.object"),
            ((2**70,), {}, "t: argument 0 is an integer past 64 bits"),
            (("\ud800",), {}, "t: argument 0 is of type builtins.str"),
        ],
    )
    def test_an_argument_that_cannot_travel_is_named(self, args, kwargs, part):
        with pytest.raises(NotSerializable) as raised:
            encode_job("t", args, kwargs, enqueued_ms=1)
        assert str(raised.value).startswith(part)

    def test_arguments_that_hold_themselves_are_refused_in_a_line(self):
        ring: list = []
        ring.append(ring)
        with pytest.raises(NotSerializable, match="argument 0 is nested too deep, or holds itself"):
            encode_job("t", (ring,), {}, enqueued_ms=1)

    def test_metadata_that_cannot_travel_is_refused(self):
        with pytest.raises(NotSerializable, match="metadata"):
            encode_job("t", (), {}, enqueued_ms=1, extras=Extras(meta={"a": object()}))

    def test_an_argument_that_cannot_be_pickled_is_refused(self):
        with pytest.raises(NotSerializable, match="cannot be pickled"):
            encode_job("t", (lambda: 1,), {}, enqueued_ms=1, form="pickle")


class TestResults:
    @given(plain, st.integers(1, 100), st.one_of(st.none(), st.dictionaries(words, plain)))
    def test_a_success_round_trips(self, value, attempt, metadata):
        back = decode_result(encode_result(a_result(value=value, attempt=attempt, metadata=metadata)))
        assert back.success
        assert to_plain(back.value) == value
        assert (back.job_id, back.task, back.queue, back.worker, back.outcome) == ("j1", "t", "q", "w", "succeeded")
        assert (back.attempt, back.enqueued_ms, back.started_ms, back.finished_ms) == (attempt, 1, 2, 3)
        assert back.metadata == metadata
        assert back.error is None

    @given(st.text(), st.text(), st.text())
    def test_a_failure_round_trips_whatever_its_text(self, kind, message, trace):
        raw = encode_result(a_result(success=False, error=RemoteError(kind, message, trace), outcome="failed"))
        back = decode_result(raw)
        assert not back.success
        # A lone surrogate, as Python gives in odd file names, is written as an escape: the outcome must be recorded.
        seen = [text.encode(errors="backslashreplace").decode() for text in (kind, message, trace)]
        assert [back.error.type, back.error.message, back.error.traceback] == seen

    @pytest.mark.parametrize("odd", ["\udc80", "a\ud800b"])
    def test_ids_and_names_that_utf8_cannot_hold_do_not_stop_an_outcome(self, odd):
        back = decode_result(encode_result(a_result(job_id=odd, task=odd, queue=odd)))
        assert "\\ud" in back.job_id
        assert back.success

    def test_a_value_that_cannot_travel_is_named(self):
        with pytest.raises(NotSerializable, match=r"t: the result\['a'\] is of type builtins.object"):
            encode_result(a_result(value={"a": object()}))
        with pytest.raises(NotSerializable, match=r"the result is of type builtins.str"):
            encode_result(a_result(value="\ud800"))

    def test_a_result_goes_back_in_the_form_its_job_came_in(self):
        raw = encode_result(a_result(form="pickle", args=(1,), kwargs={"b": 2}))
        assert pickle.loads(raw) == {
            "t": 2, "f": "t", "a": (1,), "k": {"b": 2}, "et": 1, "s": True, "r": {"a": 1}, "st": 2, "ft": 3,
            "q": "q", "id": "j1", "o": "succeeded", "w": "w",
        }  # fmt: skip
        custom = encode_result(a_result(form="custom", args=[1], kwargs={}), JSON)
        assert json.loads(custom)["r"] == {"a": 1}
        assert decode_result(custom, JSON).value == {"a": 1}

    def test_a_pickled_failure_carries_the_exception_itself(self):
        result = a_result(
            success=False,
            error=RemoteError("builtins.ValueError", "no", "tb"),
            exception=ValueError("no"),
            form="pickle",
        )
        back = decode_result(encode_result(result), PICKLES)
        assert isinstance(back.exception, ValueError)
        assert back.error == RemoteError("builtins.ValueError", "no", "tb")

    @pytest.mark.parametrize("returned", [None, "text", {"a": 1}, 5])
    def test_a_serializer_that_returns_no_bytes_is_named(self, returned):
        broken = Reading(serializer=lambda data: returned)
        for result in (
            a_result(form="custom"),
            a_result(form="custom", success=False, error=RemoteError("a.B", "no"), exception=ValueError("no")),
        ):
            with pytest.raises(NotSerializable, match=rf"job_serializer returned {type(returned).__name__}, not bytes"):
                encode_result(result, broken)

    def test_a_failure_that_a_serializer_gives_no_bytes_for_is_told_in_fewer_words(self):
        choosy = Reading(serializer=lambda data: b"bytes" if data["r"] == "unable to serialize result" else None)
        failed = a_result(form="custom", success=False, error=RemoteError("a.B", "no"), exception=ValueError("no"))
        assert encode_result(failed, choosy) == b"bytes"

    def test_an_exception_that_cannot_be_pickled_does_not_stop_an_outcome(self):
        class Local(Exception):
            pass

        result = a_result(
            success=False,
            error=RemoteError("x.Local", "no"),
            exception=Local(),
            form="pickle",
            args=(object(),),
            kwargs={"a": lambda: 1},
        )
        back = decode_result(encode_result(result), PICKLES)
        assert back.exception is None
        assert back.error == RemoteError("x.Local", "no")

    def test_a_pickled_value_that_cannot_be_pickled_is_an_error_of_the_task(self):
        with pytest.raises(NotSerializable, match="cannot be serialised"):
            encode_result(a_result(value=lambda: 1, form="pickle"))

    def test_what_arq_writes_is_read(self):
        given = {
            "t": 1,
            "f": "t",
            "a": (1,),
            "k": {},
            "et": 1,
            "s": False,
            "r": asyncio.CancelledError(),
            "st": 2,
            "ft": 3,
            "q": "q",
        }
        back = decode_result(pickle.dumps(given), PICKLES)
        assert back.outcome == "cancelled"
        assert back.error.type == "asyncio.exceptions.CancelledError"
        words = decode_result(msgspec.msgpack.encode(given | {"r": "unable to serialize result"}))
        assert words.error == RemoteError("arq.jobs.SerializationError", "unable to serialize result")


DECODERS = [decode_job, decode_result]
READINGS = [Reading(), PICKLES, JSON]
SEEDS = [
    encode_job("t", (1, "x", [None]), {"k": {"a": 1.5}}, enqueued_ms=1, extras=Extras(3, {"a": 1})),
    encode_result(a_result(metadata={"a": 1})),
    encode_result(a_result(success=False, error=RemoteError("a.B", "m", "tb"))),
]


class TestForeignBytes:
    """Any bytes at all are decoded or are Undecodable; no other exception reaches a worker's loop."""

    @staticmethod
    def survives(raw: bytes, reading: Reading) -> None:
        for decode in DECODERS:
            try:
                found = decode(raw, reading)
            except Undecodable:
                continue
            if decode is decode_job:
                try:
                    found.as_objects()
                except Undecodable:
                    continue

    @given(st.binary(max_size=80), st.sampled_from([Reading(), JSON]))
    @settings(max_examples=300)
    def test_arbitrary_bytes(self, raw, reading):
        self.survives(raw, reading)

    @given(plain)
    def test_any_msgpack(self, value):
        self.survives(msgspec.msgpack.encode(value), Reading())

    @given(plain)
    def test_any_object_out_of_a_deserializer(self, value):
        self.survives(b"{", Reading(deserializer=lambda _: value))
        self.survives(pickle.dumps(value), PICKLES)

    @given(st.sampled_from(SEEDS), st.data())
    def test_a_payload_that_was_damaged(self, seed, data):
        at = data.draw(st.integers(0, len(seed) - 1))
        damage = data.draw(st.binary(max_size=3))
        width = data.draw(st.integers(0, 4))
        raw = seed[:at] + damage + seed[at + width :]
        if not is_pickle(raw):
            self.survives(raw, Reading())

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_payload_cut_short_anywhere(self, seed):
        for length in range(len(seed)):
            for decode in DECODERS:
                with pytest.raises(Undecodable):
                    decode(seed[:length])

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x85\xa1t\xc0\xa1f\xa1\xff\xa2et\x01\xa1k\x80\xa1a\x90",
            b"\x85\xa1t\xc0\xa1f\xa1x\xa2et\x01\xa1k\x80\xa1a" + b"\x91" * 100_000,
            b"\x83\xa1f\xa1x\xa1s\xc2\xa1r\xa1\xff",
            b"\x80\x04garbage",
            b"\x80\x04\x95",
        ],
    )
    @pytest.mark.parametrize("reading", READINGS[:2])
    def test_what_once_escaped_as_another_exception(self, raw, reading):
        for decode in DECODERS:
            with pytest.raises(Undecodable):
                decode(raw, reading)

    def test_a_value_never_appears_in_an_error(self):
        raw = msgspec.msgpack.encode({"f": "t", "a": [1], "k": {}, "et": "hunter2", "b": {"timeout": "hunter2"}})
        with pytest.raises(Undecodable) as raised:
            decode_job(raw)
        assert "hunter2" not in str(raised.value)
        assert str(raised.value) == "the payload is no job: et: Expected `int`, got `str`"

"""Signatures: what they cover, what they refuse, and that keys show nowhere."""

import asyncio
import copy
import json
import pickle
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import Call
from common.codec import Extras, Reading, decode_job, encode_job
from common.errors import ConfigurationError, SignatureRefused
from common.result_codec import Result, decode_result, encode_result
from common.settings import Settings, load_settings
from common.signing import Keyring, keyring_of, read_keys
from producer.binding import Binder
from producer.options import EnqueueOptions
from workers.signed_enqueues import signing_client

OLD, NEW = "old" + "o" * 40, "new" + "n" * 40
SECRETS = (OLD, NEW)
KEYS = Keyring({"new": NEW, "old": OLD})
ALL = Reading(accept_pickle=True, signing=KEYS)


def a_payload(form="msgpack", **extras) -> bytes:
    return encode_job("fetch", ("u", b"\x00"), {"k": 1}, enqueued_ms=7, extras=Extras(**extras) or None, form=form)


def a_result(**changes) -> Result:
    given = {
        "job_id": "id", "task": "t", "queue": "q", "success": True, "value": 1, "attempt": 1, "enqueued_ms": 1,
        "started_ms": 2, "finished_ms": 3, "outcome": "succeeded", "worker": "w", "metadata": {"a": 1},
    }  # fmt: skip
    return Result(**given | changes)


@pytest.mark.parametrize("form", ["msgpack", "pickle"])
class TestJobs:
    def test_a_signed_job_is_read(self, form):
        raw = KEYS.seal_job(a_payload(form, timeout=3, meta={"m": 1}), "id", "q")
        payload = decode_job(raw, ALL, "id", "q")
        assert (payload.task, payload.as_objects()) == ("fetch", (("u", b"\x00"), {"k": 1}))
        assert (payload.extras.timeout, payload.extras.meta, payload.form) == (3, {"m": 1}, form)

    def test_who_has_no_keys_reads_it_too(self, form):
        raw = KEYS.seal_job(a_payload(form), "id", "q")
        assert decode_job(raw, Reading(accept_pickle=True)).task == "fetch"

    def test_arq_reads_it(self, form):
        raw = KEYS.seal_job(a_payload(form), "id", "q")
        data = pickle.loads(raw) if form == "pickle" else msgspec.msgpack.decode(raw)
        assert [data[name] for name in ("t", "f", "k", "et")] == [None, "fetch", {"k": 1}, 7]
        assert list(data["a"]) == ["u", b"\x00"]

    @pytest.mark.parametrize(
        ("job_id", "queue"), [("other", "q"), ("id", "other"), ("idq", ""), ("", "idq"), ("i", "dq"), ("", "")]
    )
    def test_a_signature_holds_for_one_id_in_one_queue(self, form, job_id, queue):
        raw = KEYS.seal_job(a_payload(form), "id", "q")
        with pytest.raises(SignatureRefused, match="another job id or queue"):
            decode_job(raw, ALL, job_id, queue)

    def test_every_bit_is_covered(self, form):
        raw = KEYS.seal_job(a_payload(form, timeout=3, meta={"m": 1}, until=9), "id", "q")
        for index in range(len(raw)):
            for bit in range(8):
                changed = bytearray(raw)
                changed[index] ^= 1 << bit
                with pytest.raises(SignatureRefused):
                    KEYS.check_job(bytes(changed), "id", "q")

    def test_nothing_can_be_added_or_taken_away(self, form):
        raw = KEYS.seal_job(a_payload(form), "id", "q")
        shorter = [raw[1:], raw[:-1], raw[:-33], *(raw[:length] for length in range(60))]
        for changed in [raw + b"\x00", raw + raw, b"\x00" + raw, *shorter]:
            with pytest.raises(SignatureRefused):
                KEYS.check_job(changed, "id", "q")

    def test_a_job_without_a_signature_is_refused_with_what_to_do(self, form):
        with pytest.raises(SignatureRefused, match=r"not signed.*BARQUE_SIGNING_KEYS.*BARQUE_ACCEPT_UNSIGNED"):
            decode_job(a_payload(form), ALL, "id", "q")

    def test_a_key_that_is_not_ours_is_named(self, form):
        raw = Keyring({"theirs": "t" * 32}).seal_job(a_payload(form), "id", "q")
        with pytest.raises(SignatureRefused, match="'theirs', which is not in BARQUE_SIGNING_KEYS"):
            decode_job(raw, ALL, "id", "q")

    def test_another_secret_under_our_key_id_does_not_fit(self, form):
        raw = Keyring({"new": "t" * 32}).seal_job(a_payload(form), "id", "q")
        with pytest.raises(SignatureRefused, match="does not fit"):
            decode_job(raw, ALL, "id", "q")


def test_a_refused_pickle_is_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    bomb = pickle.dumps(Bomb())
    for raw in (bomb, Keyring({"theirs": "t" * 32}).seal_job(bomb, "id", "q"), KEYS.seal_job(bomb, "other", "q")):
        with pytest.raises(SignatureRefused):
            decode_job(raw, ALL, "id", "q")
        with pytest.raises(SignatureRefused):
            decode_result(raw, ALL, "id")
    assert list(tmp_path.iterdir()) == []


def test_an_id_of_a_key_that_is_none_is_not_shown():
    nasty = b"\x1b[31m\n"
    raw = a_payload() + b"\xa3sig\xc4" + bytes([len(nasty) + 33]) + nasty + bytes([len(nasty)]) + bytes(32)
    with pytest.raises(SignatureRefused, match="signed with a key, which"):
        KEYS.check_job(raw, "id", "q")


class TestRotation:
    def test_the_first_signs_and_all_verify(self):
        payload = a_payload()
        before, between, after = Keyring({"old": OLD}), Keyring({"old": OLD, "new": NEW}), Keyring({"new": NEW})
        for reader in (before, between, KEYS):
            reader.check_job(before.seal_job(payload, "id", "q"), "id", "q")
            reader.check_job(between.seal_job(payload, "id", "q"), "id", "q")
        for reader in (between, KEYS, after):
            reader.check_job(KEYS.seal_job(payload, "id", "q"), "id", "q")

    def test_what_an_old_key_signed_ends_with_it(self):
        with pytest.raises(SignatureRefused, match="'old'"):
            Keyring({"new": NEW}).check_job(Keyring({"old": OLD}).seal_job(a_payload(), "id", "q"), "id", "q")


class TestMovingOver:
    LENIENT = Keyring({"new": NEW}, accept_unsigned=True)

    def test_what_is_unsigned_passes(self):
        reading = Reading(signing=self.LENIENT)
        assert decode_job(a_payload(), reading, "id", "q").task == "fetch"
        assert decode_result(encode_result(a_result()), reading, "id").success

    def test_a_wrong_signature_never_does(self):
        reading = Reading(signing=self.LENIENT)
        with pytest.raises(SignatureRefused):
            decode_job(KEYS.seal_job(a_payload(), "id", "q"), reading, "other", "q")
        with pytest.raises(SignatureRefused):
            decode_job(Keyring({"old": OLD}).seal_job(a_payload(), "id", "q"), reading, "id", "q")


@pytest.mark.parametrize("form", ["msgpack", "pickle"])
class TestResults:
    def test_a_result_is_signed_and_read(self, form):
        result = a_result(form=form, args=(), kwargs={})
        raw = encode_result(result, ALL)
        assert raw != encode_result(result)
        assert decode_result(raw, ALL, "id").job_id == "id"
        assert decode_result(raw, Reading(accept_pickle=True)).job_id == "id"

    def test_a_result_holds_for_its_job_alone(self, form):
        raw = encode_result(a_result(form=form, args=(), kwargs={}), ALL)
        with pytest.raises(SignatureRefused, match="result's signature does not fit"):
            decode_result(raw, ALL, "other")

    def test_a_result_without_a_signature_is_refused(self, form):
        with pytest.raises(SignatureRefused, match=r"result is not signed.* Set it where the job is run"):
            decode_result(encode_result(a_result(form=form, args=(), kwargs={})), ALL, "id")

    def test_a_job_is_no_result_and_a_result_no_job(self, form):
        with pytest.raises(SignatureRefused):
            KEYS.check_result(KEYS.seal_job(a_payload(form), "id", ""), "id")
        with pytest.raises(SignatureRefused):
            KEYS.check_job(KEYS.seal_result(a_payload(form), "id"), "id", "")


@pytest.mark.parametrize("entries", [1, 14, 15, 16, 17])
def test_the_map_stays_a_map_of_any_size(entries):
    data = {f"k{number}": number for number in range(entries)}
    sealed = KEYS.seal_result(msgspec.msgpack.encode(data), "id")
    read = msgspec.msgpack.decode(sealed)
    assert read.pop("sig")[:4] == b"new\x03"
    assert read == data


def test_an_id_that_is_no_utf8_is_covered():
    odd = b"\xff".decode(errors="surrogateescape")
    KEYS.check_job(KEYS.seal_job(a_payload(), odd, odd), odd, odd)


@given(st.binary(max_size=120), st.binary(max_size=300))
def test_any_bytes_at_all_are_refused(head, tail):
    for raw in (head, tail, head + b"\xa3sig\xc4$new\x03" + tail, head + b"\xa3sig\xc4$new\x03" + tail[:32].ljust(32)):
        with pytest.raises(SignatureRefused):
            KEYS.check_job(raw, "id", "q")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty: give id:secret"),
        (",", "key 1 of 2 has no id"),
        ("x" * 40, "key 1 of 1 has no id"),
        (f"{OLD}{OLD}:{NEW}", "key 1 of 1 has no id"),
        (f"a b:{NEW}", "key 1 of 1 has no id"),
        (f":{NEW}", "key 1 of 1 has no id"),
        (f"a:{NEW},", "key 2 of 2 has no id"),
        (f"a:{NEW},b:{OLD[:31]}", "key 2 of 2 is too short: give 32 characters or more"),
        (f"a:{NEW},a:{OLD}", "key 2 of 2 has the id of a key before it"),
        (f"a:{NEW},b:{NEW}", "key 2 of 2 has the secret of a key before it"),
    ],
)
def test_keys_that_are_none_are_one_clear_error_without_the_keys(monkeypatch, text, says):
    monkeypatch.setenv("BARQUE_SIGNING_KEYS", text)
    with pytest.raises(ConfigurationError, match=f"^BARQUE_SIGNING_KEYS: {re.escape(says)}") as caught:
        load_settings()
    assert not any(secret[:16] in str(caught.value) for secret in SECRETS)
    assert "\n" not in str(caught.value)


def test_keys_are_read_in_order_with_colons_in_the_secret():
    assert read_keys(f" a:{NEW}, b:{OLD}:x ") == {"a": NEW, "b": f"{OLD}:x"}


def test_no_keys_no_keyring():
    assert keyring_of(Settings()) is None


def test_keys_are_shown_nowhere(monkeypatch):
    monkeypatch.setenv("BARQUE_SIGNING_KEYS", f"new:{NEW},old:{OLD}")
    settings = load_settings()
    keyring = keyring_of(settings)
    shown = [repr(settings), str(vars(settings)), repr(keyring), str(keyring), repr(Reading(signing=keyring))]
    assert not any(secret in text for secret in SECRETS for text in shown)
    assert repr(keyring) == "<Keyring new, old>"
    for leak in (pickle.dumps, msgspec.json.encode, json.dumps):
        with pytest.raises(TypeError):
            leak(keyring)


@pytest.mark.parametrize("own", ["serializer", "deserializer"])
def test_a_serializer_of_ones_own_and_keys_contradict(own):
    with pytest.raises(ConfigurationError, match=r"BARQUE_SIGNING_KEYS.*job_serializer"):
        Reading(signing=KEYS, **{own: bytes})


class TestEnqueueing:
    def test_a_job_is_signed_for_its_id_and_queue(self):
        bound = Binder(Settings(), KEYS).bind(Call("fetch", "u"), EnqueueOptions(queue="q"))
        assert decode_job(bound.payload, ALL, bound.job_id, "q").task == "fetch"

    def test_its_end_is_signed_too(self):
        now = Binder(Settings(), KEYS).bind(Call("fetch"))
        assert decode_job(now.payload, ALL, now.job_id, now.queue).extras is None
        ends = Binder(Settings(), KEYS).bind(Call("fetch"), EnqueueOptions(expires=10, timeout=3), "id")
        payload = decode_job(ends.payload, ALL, "id", ends.queue)
        assert payload.extras.timeout == 3
        assert 0 <= payload.extras.until - payload.enqueued_ms - 70_000 < 10_000

    def test_without_keys_nothing_is_added(self):
        bound = Binder(Settings()).bind(Call("fetch"), EnqueueOptions(expires=10), "id")
        assert set(msgspec.msgpack.decode(bound.payload)) == {"t", "f", "a", "k", "et"}


class FakeArq:
    """What arq's client has that matters here: it serialises without knowing where the job goes."""

    default_queue_name = "default"
    job_serializer = staticmethod(msgspec.msgpack.encode)

    def __init__(self):
        self.added = []

    async def enqueue_job(self, function, *args, _job_id, _queue_name, **_):
        await asyncio.sleep(0)
        raw = self.job_serializer({"t": None, "f": function, "a": args, "k": {}, "et": 1})
        self.added.append((_job_id, _queue_name, raw))


class TestArqsOwnWay:
    async def test_each_job_is_signed_for_its_own_place(self):
        given = FakeArq()
        client = signing_client(given, KEYS)
        # arq's method belongs to the object it was looked up on, as a copy's does not: both hold one list.
        await asyncio.gather(*(client.enqueue_job("f", n, _job_id=str(n), _queue_name=f"q{n % 3}") for n in range(9)))
        await client.enqueue_job("f")
        assert [queue for _, queue, _ in given.added][-1] == "default"
        for job_id, queue, raw in given.added:
            assert decode_job(raw, ALL, job_id, queue).task == "f"

    def test_the_given_client_stays_as_it_is(self):
        given = FakeArq()
        before = copy.copy(vars(given))
        signed = signing_client(given, KEYS)
        assert vars(given) == before
        assert signing_client(signed, KEYS) is signed

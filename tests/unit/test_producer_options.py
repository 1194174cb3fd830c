"""producer/options.py and binding.py: what an enqueue may ask for, and what the store is given."""

import re
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from common.codec import decode_job
from common.errors import ConfigurationError, NotSerializable, PayloadTooLarge
from common.retry import RetryPolicy
from common.settings import load_settings
from common.tasks import Call, Task, TaskOptions
from producer.binding import Binder
from producer.options import EnqueueOptions, check_id_from_elsewhere


async def fetch(ctx, url: str) -> str:
    return url


TASK = Task(fetch, "fetch", TaskOptions(queue="tasks-own"))


def bind(call=None, job_id=None, settings=None, **options):
    return Binder(settings or load_settings()).bind(call or Call("fetch", "u"), EnqueueOptions(**options), job_id)


def test_a_plain_call_is_fresh_and_has_an_id_nobody_can_have_used():
    item = bind()
    assert item.fresh
    assert re.fullmatch(r"[0-9A-Za-z]{20}", item.job_id)
    assert (item.queue, item.delay_ms, item.at_ms, item.expires_ms) == ("arq:queue", 0, 0, 0)
    payload = decode_job(item.payload)
    assert (payload.task, payload.as_objects(), payload.extras) == ("fetch", (("u",), {}), None)
    assert abs(payload.enqueued_ms - time.time() * 1000) < 60_000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"delay": 60}, {"delay_ms": 60_000}),
        ({"delay": 0}, {"delay_ms": 0}),
        ({"delay": timedelta(milliseconds=1500)}, {"delay_ms": 1500}),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC)}, {"at_ms": 1_893_456_000_000}),
        ({"at": datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))}, {"at_ms": 1_893_456_000_000}),
        ({"at": datetime(1960, 1, 1, tzinfo=UTC)}, {"at_ms": 1}),
        ({"expires": 3600}, {"expires_ms": 3_600_000}),
        ({"expires": timedelta(hours=1), "delay": 60}, {"expires_ms": 3_600_000, "delay_ms": 60_000}),
        ({"job_id": "mine"}, {"job_id": "mine"}),
    ],
)
def test_whatever_needs_a_look_at_the_server_is_not_fresh(options, expected):
    item = bind(**options)
    assert not item.fresh
    nothing = {"delay_ms": 0, "at_ms": 0, "expires_ms": 0}
    assert {name: getattr(item, name) for name in nothing | expected} == nothing | expected


@pytest.mark.parametrize(
    ("options", "extras"),
    [
        ({"timeout": 5}, {"timeout": 5.0}),
        ({"timeout": timedelta(minutes=1)}, {"timeout": 60.0}),
        ({"metadata": {"trace": "t1"}}, {"meta": {"trace": "t1"}}),
        ({"metadata": {}}, {"meta": {}}),
        ({"timeout": 1, "metadata": {"a": 1}}, {"timeout": 1.0, "meta": {"a": 1}}),
        ({"max_attempts": 7}, {"tries": 7}),
        ({"soft_timeout": timedelta(seconds=5), "timeout": 6}, {"soft": 5.0, "timeout": 6.0}),
        ({"deadline": datetime(2100, 1, 1, tzinfo=UTC)}, {"end": 4_102_444_800_000}),
    ],
)
def test_timeout_and_metadata_travel_in_the_payload_and_leave_a_job_fresh(options, extras):
    item = bind(**options)
    assert item.fresh
    assert msgspec.to_builtins(decode_job(item.payload).extras) == extras


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({"deadline": 60}, 60),
        ({"deadline": timedelta(minutes=1), "delay": 3600}, 3660),
        ({"deadline": 60, "at": datetime(2100, 1, 1, tzinfo=UTC)}, datetime(2100, 1, 1, 0, 1, tzinfo=UTC)),
        ({"deadline": 60, "at": datetime(2020, 1, 1, tzinfo=UTC)}, 60),
    ],
    ids=["now", "delay", "at", "at a past moment"],
)
def test_a_deadline_counts_from_when_the_job_is_due_and_travels_as_a_moment(options, after):
    end = decode_job(bind(**options).payload).extras.end
    expected = after.timestamp() if isinstance(after, datetime) else time.time() + after
    assert abs(end - expected * 1000) < 60_000


TIMED = Task(fetch, "fetch", TaskOptions(retry=RetryPolicy(max_time=60)))


LIMITED = Task(fetch, "fetch", TaskOptions(deadline=60))


@pytest.mark.parametrize("call", [Call("fetch"), TIMED("u"), LIMITED("u")])
@pytest.mark.parametrize("option", ["delay", "at"])
def test_when_a_job_is_first_due_travels_where_something_may_count_from_it(call, option):
    asked = 3600 if option == "delay" else datetime.now(tz=UTC) + timedelta(hours=1)
    due = decode_job(bind(call, **{option: asked}).payload).extras.due
    assert abs(due - (time.time() + 3600) * 1000) < 60_000


@pytest.mark.parametrize(
    ("call", "options"), [(TASK("u"), {"delay": 60}), (TIMED("u"), {}), (TIMED("u"), {"delay": 0})]
)
def test_and_not_otherwise(call, options):
    assert decode_job(bind(call, **options).payload).extras is None


@pytest.mark.parametrize(
    ("call", "queue", "expected"),
    [
        (Call("fetch"), None, "first"),
        (TASK("u"), None, "tasks-own"),
        (TASK("u"), "asked", "asked"),
        (Call("fetch"), "asked", "asked"),
    ],
)
def test_the_queue_is_the_one_asked_for_else_the_tasks_own_else_the_first_of_the_settings(call, queue, expected):
    assert bind(call, queue=queue, settings=load_settings(queues="first,second")).queue == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": -1}, "delay=-1: give seconds"),
        ({"delay": float("nan")}, "delay=nan"),
        ({"delay": float("inf")}, "delay=inf"),
        ({"delay": timedelta(seconds=-1)}, "delay="),
        ({"delay": 1, "at": datetime.now(UTC)}, "give delay= or at=, not both"),
        ({"at": datetime(2030, 1, 1)}, "at= needs a time zone"),  # noqa: DTZ001 - the point
        ({"expires": 0}, "expires=0"),
        ({"expires": 10, "delay": 10}, "expires=10 s is over before the job is due in 10 s"),
        ({"expires": 10, "at": datetime(2100, 1, 1, tzinfo=UTC)}, "is over before the job is due"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"soft_timeout": 0}, "soft_timeout=0"),
        ({"soft_timeout": 5, "timeout": 5}, "soft_timeout=5 s is not before timeout=5 s"),
        ({"deadline": 0}, "deadline=0"),
        ({"deadline": datetime(2100, 1, 1)}, "deadline= needs a time zone"),  # noqa: DTZ001 - that is the mistake
        ({"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, "has passed by the time the job is due"),
        ({"deadline": datetime(2100, 1, 1, tzinfo=UTC), "at": datetime(2100, 1, 2, tzinfo=UTC)}, "has passed by"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"max_attempts": 2.5}, "max_attempts=2.5"),
        ({"max_attempts": True}, "max_attempts=True"),
        ({"max_attempts": 10**7}, "1 to 1,000,000"),
        ({"job_id": ""}, "job_id=''"),
        ({"job_id": "a b"}, "job_id='a b'"),
        ({"job_id": "a\nb"}, "without spaces"),
        ({"job_id": "\udc80"}, "lone surrogates"),
        ({"job_id": "x" * 513}, "1 to 512 characters"),
        ({"queue": "a b"}, "queue='a b'"),
        ({"queue": "\ud800"}, "queue="),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name_before_anything_is_sent(options, message):
    with pytest.raises(ConfigurationError) as raised:
        bind(**options)
    assert message in str(raised.value)


@pytest.mark.parametrize("job_id", ["x" * 512, "order:17/ü", "😀"])
def test_ids_may_be_words(job_id):
    assert bind(job_id=job_id).job_id == job_id


@pytest.mark.parametrize("wrong", [5, None, uuid.UUID(int=1), b"mine"])
def test_an_id_that_is_no_text_is_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=r"job_id=.*: give text"):
        check_id_from_elsewhere("job_id", wrong)
    if wrong is not None:
        with pytest.raises(ConfigurationError, match=r"job_id=.*: give text"):
            bind(job_id=wrong)


@pytest.mark.parametrize("wrong", ["", "a\udc7f", "\ud800"])
def test_no_job_from_elsewhere_can_have_an_id_without_a_form_in_bytes(wrong):
    with pytest.raises(ConfigurationError, match=r"job_id='.*': give text, without lone surrogates"):
        check_id_from_elsewhere("job_id", wrong)


@pytest.mark.parametrize("job_id", ["with spaces", "two\nlines", "x" * 2000, "😀"])
def test_a_job_from_elsewhere_may_have_an_id_that_enqueue_would_refuse(job_id):
    assert check_id_from_elsewhere("job_id", job_id) == job_id


@pytest.mark.parametrize("wrong", [TASK, fetch, "fetch", None, 5])
def test_what_is_no_call_is_told_how_to_make_one(wrong):
    with pytest.raises(ConfigurationError, match=r"enqueue takes a Call, got \w+: call the task, as in enqueue\("):
        Binder(load_settings()).bind(wrong)


def test_a_payload_over_the_limit_is_refused_with_both_numbers_and_without_its_content():
    with pytest.raises(
        PayloadTooLarge, match=r"fetch: the payload has 2,0\d\d bytes, the limit is 1,000 \(BARQUE_MAX"
    ) as raised:
        bind(Call("fetch", "secret!!" * 250), settings=load_settings(max_payload_bytes=1000))
    assert "secret" not in str(raised.value)


def test_a_payload_of_just_the_limit_is_fine():
    size = len(bind().payload)
    assert bind(settings=load_settings(max_payload_bytes=size))
    with pytest.raises(PayloadTooLarge):
        bind(settings=load_settings(max_payload_bytes=size - 1))


def test_arguments_that_cannot_travel_are_refused():
    with pytest.raises(NotSerializable, match=r"fetch: argument 0 is of type builtins.object"):
        bind(Call("fetch", object()))


def test_a_producer_for_a_stock_arq_fleet_writes_pickles():
    item = bind(settings=load_settings(payload_format="pickle"))
    assert item.payload[:1] == b"\x80"


def test_many_that_ask_for_nothing_are_made_together_and_as_one_by_one():
    calls = [Call("fetch", number, key="value") for number in range(3)]
    fresh = Binder(load_settings(queues="first")).bind_fresh(calls)
    assert fresh is not None
    assert fresh.queue == "first"
    assert sorted(fresh.job_ids) == fresh.job_ids
    assert len(set(fresh.job_ids)) == 3
    for call, raw in zip(calls, fresh.payloads, strict=True):
        job, alone = decode_job(raw), decode_job(Binder(load_settings()).bind(call).payload)
        assert (job.task, job.as_objects(), job.extras) == (alone.task, alone.as_objects(), alone.extras)
        assert abs(job.enqueued_ms - alone.enqueued_ms) < 60_000


@pytest.mark.parametrize(
    ("calls", "settings"),
    [
        ([Call("fetch"), 5], {}),
        ([Call("fetch", object())], {}),
        ([Call("fetch", "x" * 2000)], {"max_payload_bytes": 1000}),
        ([Call("fetch")], {"payload_format": "pickle"}),
    ],
    ids=["no call", "no form on the wire", "too large", "pickles"],
)
def test_what_needs_a_word_of_its_own_goes_the_long_way(calls, settings):
    assert Binder(load_settings(**settings)).bind_fresh(calls) is None


def test_calls_of_several_queues_go_the_long_way():
    assert Binder(load_settings()).bind_fresh([Call("fetch"), TASK("u")]) is None
    assert Binder(load_settings()).bind_fresh([TASK("u"), TASK("u")]).queue == "tasks-own"

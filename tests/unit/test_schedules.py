"""`cron`, `every` and `schedule`: what they take and refuse, ticks that were missed, and the record that is stored."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import common
from common import Call, Context, cron, every, schedule, task
from common.codec import MSGPACK_ONLY, Reading, decode_job
from common.errors import ConfigurationError, NotSerializable, SignatureRefused, Undecodable
from common.schedule_records import ScheduleRecord, decode_record, digest, encode_record, job_id_of, payload_of
from common.schedules import MOST_MISSED, check_name
from common.signing import Keyring

HOUR = 3_600_000


def make(name: str):
    @task(name=name)
    async def function(ctx: Context, size: int = 1) -> None: ...

    return function


def make_needy(name: str):
    @task(name=name)
    async def function(ctx: Context, size: int) -> None: ...

    return function


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr("common.tasks._registry", {})


class TestDeclaring:
    def test_a_decorator_schedules_the_task_under_its_own_name(self):
        made = make("tidy")
        assert cron("0 6 * * *")(made) is made
        (found,) = made.schedules
        assert (found.name, found.call.name, found.call.args, found.queue) == ("tidy", "tidy", (), None)
        assert str(found.timetable) == "0 6 * * *"

    def test_a_call_is_scheduled_under_a_name_of_its_own(self):
        made = make("tidy")
        given = schedule("tidy-five", made(5), every(30), queue="low")
        assert made.schedules == (given,)
        assert (given.name, given.call.args, given.queue, str(given.timetable)) == (
            "tidy-five",
            (5,),
            "low",
            "every 30s",
        )

    def test_one_task_may_have_many(self):
        made = every(60)(make("tidy"))
        schedule("a", made(1), every(60))
        schedule("b", made(2), every(60))
        assert [each.name for each in made.schedules] == ["tidy", "a", "b"]

    @pytest.mark.parametrize(
        ("declare", "why"),
        [
            (lambda: every(1)(every(2)(make("t"))), "two schedules are called 't'; give one a name of its own"),
            (lambda: every(1)(make_needy("t")), "'size': it cannot be scheduled without arguments"),
            (lambda: every(1)(make), "@cron and @every stand above @task; 'make' is no task yet"),
            (lambda: schedule("n", make("t"), every(1)), "give a task called with its arguments, got Task"),
            (lambda: schedule("n", make("t")(), "0 6 * * *"), "give cron(…) or every(…), got str"),
            (lambda: schedule("n", Call("t"), every(1)), "no worker would know that the schedule is its own"),
            (lambda: schedule("a b", make("t")(), every(1)), "a schedule called 'a b': give text of 1 to 200"),
            (lambda: schedule("n", make("t")(), every(1), queue=""), "queue='': give the name of a queue"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_declared(self, declare, why):
        with pytest.raises(ConfigurationError) as raised:
            declare()
        assert why in str(raised.value)

    def test_a_program_that_schedules_nothing_imports_none_of_it(self):
        import subprocess
        import sys

        code = "import sys, common, workers.worker, producer; print('common.schedules' in sys.modules)"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert found.stdout.strip() == "False"

    def test_a_name_that_common_does_not_have_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="no_such_name"):
            common.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["", "a b", "a\n", "\udcff", "x" * 201, 5, None])
def test_what_no_schedule_can_be_called(name):
    with pytest.raises(ConfigurationError, match="give text of 1 to 200 characters"):
        check_name(name)


@pytest.mark.parametrize(
    ("make_it", "why"),
    [
        (lambda: cron(5), "cron(5): give an expression as text"),
        (lambda: cron("@daily", timezone="Europe/Berlim"), "timezone='Europe/Berlim': no such time zone; names"),
        (lambda: cron("@daily", timezone="../../etc/passwd"), "no such time zone"),
        (lambda: cron("@daily", missed="twice"), "missed='twice': give 'skip', 'once' or 'all'"),
        (lambda: cron("@daily", jitter=-1), "jitter=-1.0: give seconds"),
        (lambda: cron("@daily", jitter=float("nan")), "jitter=nan"),
        (lambda: cron("@daily", jitter="60s"), "jitter='60s': give seconds as a number, or a timedelta"),
        (lambda: cron("@daily", missed="all", overlap=False), "give one of the two"),
        (lambda: every(0.5), "every(0.5): give seconds, or a timedelta, from one second to a year"),
        (lambda: every(timedelta(days=400)), "from one second to a year"),
        (lambda: every(float("inf")), "from one second to a year"),
        (lambda: every("5m"), "interval='5m': give seconds as a number"),
        (lambda: every(True), "interval=True"),
        (lambda: every(60, jitter=60), "jitter=60 is not below the interval of 60"),
    ],
)  # fmt: skip
def test_what_no_timetable_can_be(make_it, why):
    with pytest.raises(ConfigurationError) as raised:
        make_it()
    assert why in str(raised.value)


class TestTicks:
    def test_an_interval_ticks_at_its_multiples_whoever_asks(self):
        when = every(timedelta(minutes=5))
        at = round(datetime(2026, 5, 1, 10, 2, 7, tzinfo=UTC).timestamp() * 1000)
        assert datetime.fromtimestamp(when.next_after(at) / 1000, tz=UTC).strftime("%H:%M:%S") == "10:05:00"
        assert when.next_after(when.next_after(at)) - when.next_after(at) == 300_000

    def test_a_zone_may_be_given_as_an_object(self):
        assert cron("@daily", timezone=ZoneInfo("Asia/Tokyo")) == cron("@daily", timezone="Asia/Tokyo")
        assert cron("@daily").timezone == "UTC"

    def test_the_latest_of_a_years_missed_ticks_are_found_without_going_through_all(self):
        when, year = cron("* * * * *"), 365 * 24 * HOUR
        assert when.latest(0, year, 1) == [year]
        found = when.latest(0, year + 30_000, MOST_MISSED)
        assert (len(found), found[0], found[-1]) == (MOST_MISSED, year - 99 * 60_000, year)

    def test_what_was_before_is_not_missed(self):
        assert cron("@hourly").latest(5 * HOUR, 5 * HOUR + 5, 1) == []
        assert cron("@hourly").latest(5 * HOUR - 1, 5 * HOUR + 5, 9) == [5 * HOUR]

    @given(st.integers(1, 90), st.integers(0, 3000), st.integers(0, 6000), st.integers(1, 20))
    def test_the_latest_ticks_are_those_at_the_end_of_all(self, minutes, after, until, most):
        when = every(minutes * 60)
        after, until = after * 60_000, until * 60_000
        everything = [tick for tick in range(0, until + 1, minutes * 60_000) if tick > after]
        assert when.latest(after, until, most) == everything[-most:]

    def test_jitter_stays_within_its_bound_and_is_none_by_default(self):
        drawn = {cron("@daily", jitter=timedelta(seconds=2)).delay_ms() for _ in range(200)}
        assert drawn <= set(range(2001))
        assert len(drawn) > 20
        assert {cron("@daily").delay_ms() for _ in range(20)} == {0}


def record(**changes) -> ScheduleRecord:
    made = ScheduleRecord.of(Call("t", 1, {"a": b"x"}, key=[2]), cron("@daily"), queue="q", declared=False)
    return ScheduleRecord(**{field: getattr(made, field) for field in made.__struct_fields__} | changes)


KEYS = Reading(signing=Keyring({"k": "s" * 32}))


class TestRecords:
    @pytest.mark.parametrize("reading", [MSGPACK_ONLY, KEYS])
    @pytest.mark.parametrize(
        "when", [cron("0 6 * * mon", timezone="Asia/Tokyo", jitter=5), every(30, missed="skip", overlap=False)]
    )
    def test_a_record_is_read_as_it_was_written(self, when, reading):
        written = ScheduleRecord.of(Call("t", 1, {"a": b"x"}, key=[2]), when, queue="q", declared=True)
        read = decode_record(encode_record(written, "n", reading), "n", reading)
        assert read == written
        assert read.timetable == when

    def test_two_records_differ_in_their_digest_and_the_same_one_does_not(self):
        assert digest(encode_record(record(), "n", MSGPACK_ONLY)) == digest(encode_record(record(), "n", MSGPACK_ONLY))
        assert digest(encode_record(record(), "n", MSGPACK_ONLY)) != digest(
            encode_record(record(args=[2]), "n", MSGPACK_ONLY)
        )

    @pytest.mark.parametrize(
        "raw",
        [
            b"", b"\x80", b"garbage", encode_record(record(cron="61 * * * *"), "n", MSGPACK_ONLY),
            encode_record(record(cron=None), "n", MSGPACK_ONLY),
            encode_record(record(timezone="No/Where"), "n", MSGPACK_ONLY),
            encode_record(record(missed="never"), "n", MSGPACK_ONLY),
            encode_record(record(args=5), "n", MSGPACK_ONLY),
            encode_record(record(jitter=-5), "n", MSGPACK_ONLY),
        ],
    )  # fmt: skip
    def test_what_is_no_record_is_undecodable_and_says_of_which_schedule(self, raw):
        with pytest.raises(Undecodable, match="schedule n: "):
            decode_record(raw, "n", MSGPACK_ONLY)

    @given(st.binary(max_size=60))
    def test_any_bytes_are_a_record_or_undecodable(self, raw):
        with contextlib.suppress(Undecodable):
            decode_record(raw, "n", MSGPACK_ONLY)

    def test_where_payloads_are_signed_a_record_must_be_too_and_for_its_own_name(self):
        with pytest.raises(SignatureRefused):
            decode_record(encode_record(record(), "n", MSGPACK_ONLY), "n", KEYS)
        with pytest.raises(SignatureRefused):
            decode_record(encode_record(record(), "n", KEYS), "other", KEYS)

    def test_a_signed_record_is_no_job(self):
        with pytest.raises(SignatureRefused):
            decode_job(encode_record(record(), "n", KEYS), KEYS, "schedule:n", "q")

    def test_an_argument_that_cannot_travel_is_told_of(self):
        with pytest.raises(NotSerializable, match="schedule n"):
            encode_record(record(args=[object()]), "n", MSGPACK_ONLY)

    @pytest.mark.parametrize("form", ["msgpack", "pickle"])
    def test_the_job_of_a_tick_says_which_it_is(self, form):
        job_id = job_id_of("n", HOUR)
        raw = payload_of(record(), "n", job_id=job_id, tick_ms=HOUR, now_ms=HOUR + 5, form=form, reading=MSGPACK_ONLY)
        job = decode_job(raw, Reading(accept_pickle=True))
        assert job_id == "schedule:n:3600000"
        assert (job.task, job.as_objects()) == ("t", ((1, {"a": b"x"}), {"key": [2]}))
        assert job.enqueued_ms == HOUR + 5
        assert job.extras.meta == {"schedule": "n", "tick": "1970-01-01T01:00:00+00:00"}

    def test_the_job_of_a_tick_is_signed_for_its_id_and_queue(self):
        raw = payload_of(record(), "n", job_id="i", tick_ms=0, now_ms=0, form="msgpack", reading=KEYS)
        assert decode_job(raw, KEYS, "i", "q").task == "t"
        with pytest.raises(SignatureRefused):
            decode_job(raw, KEYS, "i", "other")

    def test_a_fleet_with_a_serializer_of_its_own_gets_jobs_it_reads(self):
        written = []
        reading = Reading(serializer=lambda job: written.append(job) or b"bytes")
        assert payload_of(record(), "n", job_id="i", tick_ms=0, now_ms=7, form="msgpack", reading=reading) == b"bytes"
        assert (written[0]["f"], written[0]["a"], written[0]["k"], written[0]["et"]) == (
            "t", (1, {"a": b"x"}), {"key": [2]}, 7,
        )  # fmt: skip


def test_a_timetable_is_plain_data():
    assert replace(cron("@daily"), jitter=5.0) == cron("@daily", jitter=5)
    assert hash(cron("@daily")) == hash(cron("@daily"))

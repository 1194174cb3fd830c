"""workers/observers.py: who is told of an outcome, what its line says then, and that none of it costs the line."""

import io
import json
import sys

import pytest

from common.codec import decode_job, encode_job
from common.errors import ConfigurationError
from common.jobs import OutcomeKind, RemoteError
from common.logs import configure_logs
from common.redis.store import Claimed
from common.settings import load_settings
from producer import Producer
from workers.attempt import Attempt, Outcome
from workers.attempt_log import AttemptLine
from workers.observers import ObservedLog, Observer, note, noted, observers_by
from workers.tracing import AttemptSpans


class Adding:
    line_fields = ("trace_id", "tenant")

    def __init__(self, **added):
        self.added = added
        self.told = []

    async def __call__(self, attempt, proceed):
        return await proceed()

    def ended(self, outcome):
        self.told.append(outcome.kind)
        return self.added


class Broken(Adding):
    def ended(self, outcome):
        raise RuntimeError("no")


def outcome(kind=OutcomeKind.SUCCEEDED, **more) -> Outcome:
    raw = encode_job("fetch", (), {}, enqueued_ms=0)
    attempt = Attempt(Claimed("j1", raw, 1, 0, False, 0, "w:1:1"), "q")
    attempt.payload = decode_job(raw)
    return Outcome(attempt, kind, None, run_seconds=0.01, **more)


def written(observers, *outcomes) -> list[dict]:
    stream = io.BytesIO()
    configure_logs(load_settings(log_format="json"), stream)
    ObservedLog("w", observers).write(outcomes)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_line_has_what_observers_add_behind_its_own_keys():
    failed = outcome(OutcomeKind.FAILED, error=RemoteError("ValueError", "no", "Traceback"))
    plain, added = written([Adding()], failed)[0], written([Adding(trace_id="ab", tenant=7, event="forged")], failed)[0]
    assert list(added) == [*plain, "trace_id", "tenant"]
    assert added == plain | {"trace_id": "ab", "tenant": 7, "timestamp": added["timestamp"]}


def test_an_observer_that_fails_costs_neither_the_line_nor_the_other_observers():
    adding = Adding(trace_id="ab")
    failed, line = written([Broken(), adding], outcome())
    assert (failed["event"], failed["observer"]) == ("observer_failed", "Broken")
    assert (line["event"], line["trace_id"]) == ("job_succeeded", "ab")
    assert adding.told == [OutcomeKind.SUCCEEDED]


def test_what_is_noted_is_of_one_attempt_and_one_observer():
    attempt, other = outcome().attempt, outcome().attempt
    note(attempt, "me", 7)
    note(attempt, "you", "x")
    assert (noted(attempt, "me", int), noted(attempt, "you", str)) == (7, "x")
    assert noted(attempt, "me", str) is noted(other, "me", int) is None


@pytest.mark.parametrize("name", [*AttemptLine.__struct_fields__, *AttemptSpans.line_fields])
def test_no_variable_of_the_log_takes_the_name_of_a_key_of_the_line(name):
    with pytest.raises(ConfigurationError, match=f"'{name}' is a key of Barque's own lines"):
        load_settings(log_context=(name,))


def test_without_settings_there_are_none():
    assert observers_by(load_settings(), []) == []


def test_one_that_was_given_is_not_there_twice():
    mine = AttemptSpans()
    assert isinstance(mine, Observer)
    assert observers_by(load_settings(traces=True), [mine]) == []
    assert [type(one) for one in observers_by(load_settings(traces=True), [])] == [AttemptSpans]


def test_an_extra_that_is_missing_is_told_in_one_line(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("producer.tracing", "workers.tracing"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "common.trace_context", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = load_settings(traces=True)
    for make in (lambda: observers_by(settings, []), lambda: Producer(settings=settings)):
        with pytest.raises(ConfigurationError, match=r"BARQUE_TRACES: .*pip install 'barque\[opentelemetry\]'"):
            make()


def test_a_parent_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="give child or link"):
        AttemptSpans(parent="sibling")

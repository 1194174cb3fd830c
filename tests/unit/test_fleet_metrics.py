"""cli/fleet_metrics.py: the fleet as Prometheus reads it, whatever names there are in it."""

from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.fleet_metrics import MOST_NAMES, OTHERS, Fleet, as_text
from common.redis.control import Stored
from common.redis.inspect import QueueReport, WorkerReport
from common.redis.limits import LimitInfo
from common.redis.schedules import Overdue

HOSTILE = ["", "a" * 100_000, "low\udc80", 'quo"te\\', "new\nline", "\x00\x7f\u202e", "naïve 𝄞", "le", "{}=,"]


def samples(fleet: Fleet) -> dict[tuple, float]:
    found = {}
    for family in text_string_to_metric_families(as_text(fleet).decode()):
        for sample in family.samples:
            place = (sample.name, *sorted(sample.labels.values()))
            assert place not in found, "one series has one value"
            found[place] = sample.value
    return found


def a_limit(name: str, kind="concurrency", *, key=None, in_use=1, waiting=2, limit=5.0, state="") -> LimitInfo:
    return LimitInfo(f"{kind}:{name}", name, kind, key, limit, in_use, waiting, datetime.now(tz=UTC), state)


def a_worker(name="w", **more) -> WorkerReport:
    return WorkerReport(name, "host", 1, "1", ("q",), 100, 0, 0, **more)


def test_an_empty_fleet_says_so():
    found = samples(Fleet([], [], 0))
    assert found["barque_workers",] == found["barque_dead_letters",] == found["barque_schedules_overdue",] == 0


def test_queues_say_whether_they_are_paused():
    queues = [QueueReport("q", 3, 2, 7.5), QueueReport("r", 0, 0, None)]
    pauses = [Stored("queue", "r", 0, b""), Stored("queue", "unseen", 0, b""), Stored("task", "send", 0, b"")]
    found = samples(Fleet(queues, [], 0, pauses=pauses))
    assert found["barque_queue_jobs", "q", "queued"] == 3
    assert found["barque_queue_jobs", "later", "q"] == 2
    assert found["barque_queue_oldest_due_seconds", "q"] == 7.5
    assert found["barque_queue_oldest_due_seconds", "r"] == 0
    assert (found["barque_queue_paused", "q"], found["barque_queue_paused", "r"]) == (0, 1)
    assert found["barque_task_paused", "send"] == 1


def test_the_keys_of_a_limit_are_one_series():
    limits = [
        a_limit("api", key="a"),
        a_limit("api", key="b", waiting=0),
        a_limit("api", "rate", in_use=None, waiting=None),
    ]
    found = samples(Fleet([], [], 0, limits=limits, gates=2000))
    assert found["barque_limit_in_use", "api", "concurrency"] == 2
    assert found["barque_limit_places", "api", "concurrency"] == 10
    assert found["barque_limit_waiting_jobs", "api", "concurrency"] == 2
    assert found["barque_limit_keys", "api", "concurrency"] == 2
    assert found["barque_limit_keys", "api", "rate"] == 1
    assert ("barque_limit_waiting_jobs", "api", "rate") not in found
    assert found["barque_gates",] == 2000


def test_breakers_are_counted_by_state_and_doors_only_by_who_waits():
    limits = [
        a_limit("api", "breaker", key="a", state="open"),
        a_limit("api", "breaker", key="b", state="closed", in_use=0),
        a_limit("send", "door", waiting=4, state="shut", limit=None),
    ]
    found = samples(Fleet([], [], 0, limits=limits))
    assert {state: found["barque_circuits", "api", state] for state in ("closed", "half_open", "open")} == {
        "closed": 1,
        "half_open": 0,
        "open": 1,
    }
    assert found["barque_limit_waiting_jobs", "door", "send"] == 4
    assert ("barque_limit_in_use", "door", "send") not in found


def test_schedules_and_workers_that_are_not_well():
    workers = [
        a_worker("a", running=3),
        a_worker("b", reasons={"paused": "…", "fenced": "…"}),
        a_worker("c", running=1),
    ]
    found = samples(Fleet([], workers, 9, schedules=Overdue(5, 2, 1, 90.5)))
    assert found["barque_schedules", "active"] == 5
    assert found["barque_schedules", "paused"] == 2
    assert found["barque_schedules_overdue",] == 1
    assert found["barque_schedule_overdue_seconds",] == 90.5
    assert found["barque_workers",] == 3
    assert found["barque_workers_not_ready", "paused"] == found["barque_workers_not_ready", "fenced"] == 1
    assert found["barque_fleet_jobs_in_flight",] == 4
    assert found["barque_fleet_concurrency",] == 300
    assert found["barque_dead_letters",] == 9


def test_names_of_any_kind_travel_and_are_bounded():
    queues = [QueueReport(name, 1, 0, None) for name in HOSTILE]
    pauses = [Stored("task", name, 0, b"") for name in HOSTILE]
    limits = [a_limit(name) for name in HOSTILE]
    workers = [a_worker(reasons=dict.fromkeys(HOSTILE, "…"))]
    found = samples(Fleet(queues, workers, 0, pauses=pauses, limits=limits))
    for series in ("barque_queue_paused", "barque_task_paused", "barque_limit_keys", "barque_workers_not_ready"):
        named = [labels for name, *labels in found if name == series]
        assert len(named) == len(HOSTILE), series
        assert max(len(label) for labels in named for label in labels) == 200


@pytest.mark.parametrize("prefix", ["made-up-", "a" * 300])
def test_however_many_names_there_are_there_are_so_many_series(prefix):
    names = [f"{prefix}{number}" for number in range(1000)]
    queues = [QueueReport(name, 1, 1, 3.0) for name in names]
    limits = [a_limit(name) for name in names]
    pauses = [Stored("task", name, 0, b"") for name in names]
    found = samples(Fleet(queues, [], 0, pauses=pauses, limits=limits))
    assert sum(name == "barque_queue_paused" for name, *_ in found) <= MOST_NAMES + 1
    assert sum(value for (name, *labels), value in found.items() if "queued" in labels) == 1000
    assert found["barque_queue_jobs", OTHERS, "queued"] == 1000 - MOST_NAMES
    assert sum(value for (name, *_), value in found.items() if name == "barque_limit_waiting_jobs") == 2000

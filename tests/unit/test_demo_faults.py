"""How the demo's server is to misbehave: decided by the seed alone, and always curable by retries."""

from collections import Counter

import msgspec
import pytest

from cli.demo.faults import Fault, ServerPlan, plan_server
from cli.demo.tasks import ATTEMPTS

NAMES = [f"package/module_{number}.py" for number in range(1000)]


def test_the_same_seed_plans_the_same():
    one, other = (plan_server("/x", NAMES, seed=3, timeout=5) for _ in range(2))
    assert one == other
    assert [one.delay(name, 1) for name in NAMES] == [other.delay(name, 1) for name in NAMES]


def test_another_seed_plans_something_else():
    assert plan_server("/x", NAMES, seed=3, timeout=5).faults != plan_server("/x", NAMES, seed=4, timeout=5).faults


def test_each_fault_has_its_share():
    counts = Counter(plan_server("/x", NAMES, seed=1, timeout=5).faults.values())
    assert counts == {Fault.ERROR: 80, Fault.BUSY: 50, Fault.STALL: 10}


@pytest.mark.parametrize("many", [3, 10, 40])
def test_few_files_see_every_fault_too(many):
    faults = plan_server("/x", NAMES[:many], seed=1, timeout=5).faults
    assert set(faults.values()) == set(Fault)
    assert faults.keys() <= set(NAMES[:many])


def test_one_file_is_planned_for():
    assert list(plan_server("/x", NAMES[:1], seed=1, timeout=5).faults) == NAMES[:1]


def test_every_file_is_served_well_before_its_attempts_are_used_up():
    plan = plan_server("/x", NAMES, seed=1, timeout=5)
    requests = Counter()
    for name in NAMES:
        while plan.fault(name, requests[name] + 1) is not None:
            requests[name] += 1
    assert max(requests.values()) == 2
    assert max(requests.values()) < ATTEMPTS - 1
    assert requests.keys() == plan.faults.keys()


@pytest.mark.parametrize("timeout", [0.1, 1, 5, 30])
def test_ordinary_answers_are_within_the_timeout_and_stalls_beyond_it(timeout):
    plan = plan_server("/x", NAMES, seed=1, timeout=timeout)
    delays = [plan.delay(name, 1) for name in NAMES]
    assert plan.fastest <= min(delays) < max(delays) <= plan.slowest <= timeout * 0.3
    assert plan.stall > timeout


def test_a_retry_is_answered_after_another_delay():
    plan = plan_server("/x", NAMES, seed=1, timeout=5)
    assert plan.delay(NAMES[0], 1) != plan.delay(NAMES[0], 2)


def test_so_many_files_are_corrupted_as_asked_for():
    assert plan_server("/x", NAMES, seed=1, timeout=5).corrupt == []
    assert len(set(plan_server("/x", NAMES, seed=1, timeout=5, corrupt=7).corrupt)) == 7


def test_a_plan_travels_as_json():
    plan = plan_server("/x", NAMES, seed=1, timeout=5, corrupt=2)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=ServerPlan) == plan

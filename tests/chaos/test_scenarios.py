"""Each scenario of the chaos suite in its short form: nothing lost, nothing twice without cause.

`make chaos` runs the long forms. How one is run by hand, and what its verdict means, is in docs/reliability.md.
"""

import pytest

from tests.chaos.driver.progress import quiet
from tests.chaos.driver.scenarios import SCENARIOS, run_scenario

BITES = {
    "killed_workers": ["killed"],
    "frozen_workers": ["frozen past its lease"],
    "cut_network": ["cut off past its lease", "unanswered past its lease"],
    "blocked_loops": ["blocked past the limit"],
}
"""What must have cost a worker a job for the scenario to have shown anything; so it is done to one that holds one."""

HARMLESS = ["slow_network", "skewed_clocks"]
"""What may cost nobody a job."""

NOT_OURS = {"starved of the processor", "server stood still"}
"""What a busy machine does of itself."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_is_lost_and_nothing_runs_twice_without_cause(name):
    plan = SCENARIOS[name].short
    verdict = await run_scenario(name, plan, progress=quiet)
    assert verdict.lost == []
    assert verdict.unexplained == []
    assert verdict.wrong() == []
    assert verdict.acknowledged >= plan.jobs
    assert verdict.attempts >= verdict.acknowledged
    assert sum(verdict.faults.values()) >= plan.rounds
    for what in BITES.get(name, []):
        assert verdict.twice.get(what, 0) >= 1, f"{what}: it struck nobody"
    if name in HARMLESS:
        assert verdict.twice.keys() <= NOT_OURS


def test_every_scenario_says_what_it_does():
    assert all(scenario.about.endswith(".") for scenario in SCENARIOS.values())
    assert SCENARIOS.keys() >= BITES.keys() | set(HARMLESS)

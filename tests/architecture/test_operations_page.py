"""What docs/operations.md and docker-compose.yml promise whoever is called at night, held against the code."""

import re
from pathlib import Path

import pytest

from common.settings import Settings
from workers.backstop import _MARGIN
from workers.leaving import LEAVING

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
TAKES_AT_MOST = Settings.shutdown_grace + LEAVING + _MARGIN

LOGGED = re.compile(r'\blog\.(?:debug|info|warning|error|exception)\(\s*"(\w+)"')
WORKER_FILES = sorted([*(ROOT / "workers").glob("*.py"), *(ROOT / "workers/supervisor").glob("*.py")])


def test_every_event_a_worker_logs_is_told_of_in_the_docs():
    told = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    events = {event for path in WORKER_FILES for event in LOGGED.findall(path.read_text("utf-8"))}
    assert {"claim_failed", "outcomes_wait"} <= events
    assert sorted(event for event in events if f"`{event}`" not in told) == []


def test_the_page_tells_of_no_event_that_is_never_logged():
    table = PAGE.partition("| A worker logs |")[2].partition("\n\n")[0]
    told = {
        event for row in table.splitlines() for event in re.findall(r"`(\w+)`", row.partition("|")[2].partition("|")[0])
    }
    source = "".join(path.read_text("utf-8") for path in WORKER_FILES)
    assert len(told) > 8
    assert sorted(event for event in told - {"job_lost"} if f'"{event}"' not in source) == []


def test_compose_waits_for_longer_than_a_stop_takes():
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert "BARQUE_SHUTDOWN_GRACE:\n" in compose, "its default is the setting's own"
    (patience,) = re.findall(r"STOP_GRACE_PERIOD:-(\d+)s", compose)
    assert int(patience) > TAKES_AT_MOST


@pytest.mark.parametrize(
    "variable", ["terminationGracePeriodSeconds: ", "stop_grace_period: ", "TimeoutStopSec=", "stopwaitsecs="]
)
def test_the_page_has_supervisors_wait_for_longer_than_a_stop_takes(variable):
    (seconds,) = re.findall(rf"`{variable}(\d+)s?`", PAGE)
    assert int(seconds) > TAKES_AT_MOST

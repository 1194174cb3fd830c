"""deploy/grafana-dashboard.json asks for series that there are, with labels they have."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.fleet_metrics import Fleet, as_text
from common.jobs import OutcomeKind
from common.redis.inspect import QueueReport
from workers.metrics import Metrics, TaskFigures
from workers.metrics_page import MetricsPage, Now
from workers.wellbeing import Wellbeing

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text("utf-8"))
EXPRESSIONS = [
    pytest.param(target["expr"], id=panel["title"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
]
GAUGES = ("barque_jobs_in_flight", "barque_concurrency", "barque_outcomes_waiting", "barque_jobs_given_up")
COUNTERS = ("barque_event_loop_blocks", "barque_event_loop_blocked_seconds")


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Each series there is, and its labels."""
    metrics = Metrics()
    figures = metrics.tasks["fetch"] = TaskFigures()
    figures.outcomes[OutcomeKind.SUCCEEDED] = 1
    figures.dead["failed"] = 1
    metrics.held_back("rate", "api")
    metrics.waited("rate", "api", 1.0)
    metrics.circuit("api", "opened")
    page = MetricsPage(
        metrics,
        now=lambda: Now(dict.fromkeys(GAUGES, 1.0), dict.fromkeys(COUNTERS, 1.0)),
        wellbeing=lambda: Wellbeing(alive=True, reasons={}),
        labels={"worker": "w", "queues": "q"},
        build={"version": "1", "python": "3", "arq": "2"},
    )
    fleet = Fleet([QueueReport("q", 1, 2, 3.0)], [], 0)
    found: dict[str, set[str]] = {}
    for text in (page.text(), as_text(fleet)):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_a_panel_asks_for_is_there(expression, series):
    names = re.findall(r"\b((?:barque|process)_\w+)", expression)
    assert names
    for name in names:
        assert name in series
    labels = set().union(*(series[name] for name in names)) | {"instance", "job"}  # Prometheus adds those two
    for group in re.findall(r"(?:by|on) \(([\w, ]+)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels
    assert set(re.findall(r"(\w+)=~", expression)) <= labels


def test_every_series_of_ours_is_in_the_docs(series):
    told = (ROOT / "docs/metrics.md").read_text("utf-8")
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in series if name.startswith("barque_")}
    assert sorted(name for name in families if f"`{name}`" not in told) == []


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells

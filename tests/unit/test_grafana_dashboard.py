"""The dashboard and the alerts in deploy/ ask for series that there are, with labels they have; how those are named."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from cli.fleet_metrics import Fleet, as_text
from common.jobs import OutcomeKind
from common.redis.control import Stored
from common.redis.inspect import QueueReport, WorkerReport
from common.redis.limits import LimitInfo
from workers.metrics import Metrics, TaskFigures
from workers.metrics_page import MetricsPage, Now
from workers.wellbeing import REASONS, Wellbeing

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus-alerts.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text("utf-8"))
EXPRESSIONS = [
    pytest.param(target["expr"], id=panel["title"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
]
GAUGES = ("barque_jobs_in_flight", "barque_concurrency", "barque_outcomes_waiting", "barque_jobs_given_up")
COUNTERS = ("barque_event_loop_blocks", "barque_event_loop_blocked_seconds")


@pytest.fixture(scope="module")
def families() -> list[Metric]:
    """Each family there is, of a worker and of the fleet, with something in it."""
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
    limits = [
        LimitInfo(f"{kind}:api", "api", kind, None, 5.0, 1, 2, None, "open")
        for kind in ("rate", "concurrency", "breaker", "door")
    ]
    worker = WorkerReport("w", "host", 1, "1", ("q",), 100, 0, 0, reasons={"paused": "…"})
    pauses = [Stored("queue", "q", 0, b""), Stored("task", "fetch", 0, b"")]
    fleet = Fleet([QueueReport("q", 1, 2, 3.0)], [worker], 0, pauses=pauses, limits=limits, gates=4)
    texts = (page.text(), as_text(fleet))
    return [family for text in texts for family in text_string_to_metric_families(text.decode())]


@pytest.fixture(scope="module")
def series(families) -> dict[str, set[str]]:
    """Each series there is, and its labels."""
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_the_names_are_as_prometheus_wants_them(families):
    """What `promtool check metrics` asks, besides that it parses."""
    ours = [family for family in families if family.name.startswith("barque_")]
    units = re.compile(
        r"_(ms|us|ns|millis\w*|micros\w*|minutes?|hours?|days?|kb|mb|bits?|percent|kilo\w*|mega\w*)(_|$)"
    )
    kinds = re.compile(r"_(counter|gauge|histogram|summary|metric)(_|$)")
    for family in ours:
        assert family.documentation, family.name
        assert family.samples, f"{family.name}: nothing of it is looked at"
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", family.name), family.name
        assert not units.search(family.name), family.name
        assert not kinds.search(family.name), family.name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{family.name}_total"}
        else:
            assert not re.search(r"_(total|created)$", family.name), family.name
        if family.type != "histogram":
            assert not re.search(r"_(count|sum|bucket)$", family.name), family.name
        assert all("le" not in sample.labels or family.type == "histogram" for sample in family.samples)
    names = [family.name for family in ours]
    assert len(names) == len(set(names)) > 40


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


ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]
}


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_an_alert_asks_for_what_is_there_and_says_what_to_do(rule, series):
    expression = rule["expr"]
    names = re.findall(r"\b(barque_\w+)", expression)
    assert names
    for name in names:
        assert name in series
    labels = set().union(*(series[name] for name in names)) | {"instance"}
    for group in re.findall(r"\bby \(([\w, ]+)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels
    matched = re.findall(r"[{,]\s*(\w+)\s*[=!]", expression)
    assert set(matched) <= labels
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    kept = {label.strip() for group in re.findall(r"\bby \(([\w, ]+)\)", expression)[:1] for label in group.split(",")}
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    for label in re.findall(r"\$labels\.(\w+)", told["summary"] + told["description"]):
        assert label in kept, "what is summed over is in no label of the alert's"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_runbook(name):
    page, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    assert anchor == name.lower()
    assert f"\n### {name}\n" in (ROOT / page).read_text("utf-8")


def test_a_runbook_has_its_alert():
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    assert set(re.findall(r"^### (Barque\w+)$", page, re.MULTILINE)) == set(ALERTS)


def test_reasons_and_states_that_alerts_name_are_some_there_are():
    expressions = " ".join(rule["expr"] for rule in ALERTS.values())
    named = set(re.findall(r'reason!?="(\w+)"', expressions))
    assert named == {"server_away", "paused"} <= set(REASONS)
    assert 'state=~"open|half_open"' in expressions

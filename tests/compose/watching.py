"""What holds of the profile `monitoring`: Prometheus finds all workers, counts their jobs and has the alerts."""

from __future__ import annotations

import json
from urllib.parse import quote

from tests.compose.load import Load
from tests.compose.stack import ROOT, Failed, Stack, answer, docker, say, wait_for

__all__ = ["monitoring"]


def monitoring(stack: Stack) -> None:
    """Prometheus has every worker there is as a target that is up, the alerts, and as many jobs as there were."""
    stack.add("monitoring")
    stack.up("metrics", "prometheus")
    stack.workers(3)
    wait_for("three workers that are up", lambda: _up(stack) == 3)
    load = Load(stack)
    load.wait(100)
    jobs = load.finish()
    jobs.check(at_least=100)
    query = 'sum(barque_attempts_total{task="compose_load",outcome="succeeded"})'
    # Those of parts before this one are counted too, by workers that have lived since.
    wait_for(f"{jobs.succeeded} jobs to be counted", lambda: (_value(stack, query) or 0) >= jobs.succeeded)
    if _value(stack, "max(barque_workers)") != 3:
        raise Failed("the fleet's figures do not have three workers")
    rules = [rule for group in _ask(stack, "rules")["groups"] for rule in group["rules"]]
    wrong = {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] == "err"}
    if wrong or not rules:
        raise Failed(f"{len(rules)} alerts; with errors: {wrong}")
    say(f"3 workers are up, {jobs.succeeded} jobs counted, {len(rules)} alerts loaded")
    stack.workers(1)
    wait_for("workers that are gone to be no targets", lambda: _up(stack) == 1 and _targets(stack) == 1)
    say("after a scale-down to 1 the others are no targets any more")
    _grafana(stack)


def _ask(stack: Stack, path: str) -> dict:
    return answer(stack, "metrics", f"http://prometheus:9090/api/v1/{path}")["data"]


def _value(stack: Stack, query: str) -> float | None:
    found = _ask(stack, f"query?query={quote(query)}")["result"]
    return float(found[0]["value"][1]) if found else None


def _workers(stack: Stack) -> list[dict]:
    found = _ask(stack, "targets?state=active")["activeTargets"]
    return [target for target in found if target["labels"]["job"] == "barque-workers"]


def _targets(stack: Stack) -> int:
    return len(_workers(stack))


def _up(stack: Stack) -> int:
    return sum(target["health"] == "up" for target in _workers(stack))


def _grafana(stack: Stack) -> None:
    """Look at Grafana's dashboard and whether its data come from Prometheus, where its image can be had."""
    image = stack.image_of("grafana")
    if not docker("image", "ls", "--quiet", image) and not docker("pull", "--quiet", image, check=False):
        say(f"NOT TRIED: Grafana, since {image} is not here and cannot be pulled")
        return
    stack.up("grafana")
    uid = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text("utf-8"))["uid"]
    found = answer(stack, "metrics", f"http://grafana:3000/api/dashboards/uid/{uid}")
    if not found["meta"]["provisioned"]:
        raise Failed("the dashboard is there, and not by provisioning")
    through = (
        f"http://grafana:3000/api/datasources/proxy/uid/prometheus/api/v1/query?query={quote('max(barque_workers)')}"
    )
    if answer(stack, "metrics", through)["status"] != "success":
        raise Failed("Grafana does not reach Prometheus")
    say("Grafana has the dashboard, and its data come from Prometheus")

"""The manifests in deploy/kubernetes, held against what they speak of: settings, pages, ports, grace."""

import re
from pathlib import Path

import pytest
import yaml

from common.settings import Settings
from dashboard.settings import DashboardSettings

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
DOCUMENTS = [
    (path.relative_to(ROOT).as_posix(), document)
    for path in sorted(ROOT.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
DEPLOYMENTS = {d["metadata"]["name"]: d for _, d in DOCUMENTS if d["kind"] == "Deployment"}
SERVICES = {d["metadata"]["name"]: d for _, d in DOCUMENTS if d["kind"] == "Service"}
BASE = next(d for path, d in DOCUMENTS if path == "base/kustomization.yaml")


def container(name: str) -> dict:
    (only,) = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    return only


def settings_of_the_map() -> dict[str, str]:
    (generated,) = BASE["configMapGenerator"]
    return dict(line.split("=", 1) for line in generated["literals"])


def test_every_file_is_part_of_a_kustomization():
    listed = set()
    for path, document in DOCUMENTS:
        if path.endswith("kustomization.yaml"):
            listed |= {f"{Path(path).parent}/{name}" for name in document["resources"]}
    assert listed == {path for path, _ in DOCUMENTS if not path.endswith("kustomization.yaml")}


def test_settings_are_settings_and_the_values_are_taken(monkeypatch):
    given = settings_of_the_map()
    for each in DEPLOYMENTS:
        given |= {pair["name"]: pair["value"] for pair in container(each).get("env", [])}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    known = {f"BARQUE_{name.upper()}" for name in Settings.names()}
    assert given.keys() <= known
    assert str(Settings().metrics_port) == "9464"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_may_do_as_little_as_it_needs(name):
    pod, only = DEPLOYMENTS[name]["spec"]["template"]["spec"], container(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in only["resources"]["limits"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_selectors_find_the_pods(name):
    spec = DEPLOYMENTS[name]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", SERVICES)
def test_services_lead_to_a_port_that_is_there(name):
    service, deployment = SERVICES[name]["spec"], DEPLOYMENTS[name]["spec"]
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports


def test_the_user_is_the_images():
    image = (ROOT.parents[1] / "Dockerfile").read_text("utf-8")
    (user,) = set(re.findall(r"^USER (\d+):\d+$", image, re.MULTILINE))
    assert {d["spec"]["template"]["spec"]["securityContext"]["runAsUser"] for d in DEPLOYMENTS.values()} == {int(user)}


def test_a_worker_is_stopped_in_more_time_than_it_takes():
    grace = DEPLOYMENTS["barque-worker"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= float(settings_of_the_map()["BARQUE_SHUTDOWN_GRACE"]) + 10


def test_probes_ask_for_pages_that_a_worker_has():
    page = (ROOT.parents[1] / "workers" / "metrics_page.py").read_text("utf-8")
    probes = [container("barque-worker")[kind]["httpGet"] for kind in ("readinessProbe", "livenessProbe")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/livez"]
    assert all(f'"{probe["path"]}"' in page for probe in probes)
    assert {probe["port"] for probe in probes} == {"metrics"}


def test_the_dashboard_listens_where_its_service_leads():
    (port,) = container("barque-dashboard")["ports"]
    assert port["containerPort"] == DashboardSettings().port


def test_the_figure_to_scale_on_is_one_that_the_fleet_tells():
    (scaled,) = [d for _, d in DOCUMENTS if d["kind"] == "ScaledObject"]
    told = "".join(path.read_text("utf-8") for path in (ROOT.parents[1] / "cli").glob("*metrics*.py"))
    (series,) = set(re.findall(r"barque_\w+", scaled["spec"]["triggers"][0]["metadata"]["query"]))
    assert series in told
    assert scaled["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS

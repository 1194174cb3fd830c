"""docker-compose.yml, what is laid over it, .env.example and the Dockerfile hold together.

`make compose-test` really runs them.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from common.settings import Settings, load_settings
from dashboard.settings import DashboardSettings

ROOT = Path(__file__).parents[2]
OVER = ROOT / "deploy" / "compose"
FILES = {path.name: path.read_text("utf-8") for path in (ROOT / "docker-compose.yml", *sorted(OVER.glob("*.yml")))}
del FILES["prometheus.yml"]
LOADED = {name: yaml.safe_load(text) for name, text in FILES.items()}
SERVICES = LOADED["docker-compose.yml"]["services"]
ALL = [pytest.param(file, name, id=f"{file}:{name}") for file, text in LOADED.items() for name in text["services"]]
OWN = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
NOT_FROM_ENV = {"data_root", "database_url", "log_file"}
"""Places on the host: within the image they are elsewhere (see the Dockerfile)."""


def whole(file: str, name: str) -> dict:
    """Return a service as it is once the file is laid over the main one; lists are not merged here."""
    return SERVICES.get(name, {}) | LOADED[file]["services"][name]


def environment(name: str) -> dict:
    return SERVICES[name]["environment"]


def test_every_variable_is_in_the_example():
    named = {name for text in FILES.values() for name in re.findall(r"\$\{(\w+)", text)}
    named |= {key for name in OWN for key, value in environment(name).items() if value is None}
    assert {"STOP_GRACE_PERIOD", "SENTINEL_NETWORK", "BARQUE_CONCURRENCY"} <= named
    shown = set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE))
    known = {f"BARQUE_{name.upper()}" for name in Settings.names()}
    assert sorted(named - shown - known) == []


def test_the_defaults_in_the_example_are_those_of_the_files():
    for text in FILES.values():
        for name, default in re.findall(r"\$\{(\w+):-([^}]+)\}", text):
            shown = re.search(rf"^#{name}=(.*)$", EXAMPLE, re.MULTILINE)
            if shown and not name.startswith("BARQUE_"):
                assert shown[1] == default, name


@pytest.mark.parametrize("name", OWN)
def test_what_env_sets_reaches_every_container_of_ours(name):
    elsewhere = {field for field in Settings.names() if field.startswith("redis_")} | NOT_FROM_ENV
    wanted = {f"BARQUE_{field.upper()}" for field in set(Settings.names()) - elsewhere}
    assert sorted(wanted - environment(name).keys()) == [], "name it in docker-compose.yml, under x-environment"


def test_containers_of_ours_have_no_settings_that_there_are_not():
    known = {f"BARQUE_{field.upper()}" for field in Settings.names()}
    known |= {f"BARQUE_DASHBOARD_{field.upper()}" for field in DashboardSettings.model_fields}
    named = {
        key
        for file in LOADED.values()
        for service in file["services"].values()
        for key in service.get("environment") or ()
    }
    assert sorted(key for key in named if key.startswith("BARQUE_") and key not in known) == []


@pytest.mark.parametrize("over", ["tls.yml", "sentinel.yml"])
def test_another_server_is_another_for_all_clients_and_none_is_left_with_the_plain_one(over):
    changed = LOADED[over]["services"]
    assert set(OWN) <= changed.keys()
    for name in OWN:
        assert changed[name]["environment"]["BARQUE_REDIS_URL"] != environment(name)["BARQUE_REDIS_URL"]
        values = {key.removeprefix("BARQUE_").lower(): value for key, value in changed[name]["environment"].items()}
        values = {key: re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", value) for key, value in values.items()}
        load_settings(**values)  # which raises where a value is none


def test_with_tls_there_is_no_plain_port():
    words = LOADED["tls.yml"]["services"]["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert (options["--port"], options["--tls-port"]) == ("0", "6379")
    plain = SERVICES["redis"]["command"]
    kept = dict(zip(plain[1::2], plain[2::2], strict=True))
    assert kept.items() <= options.items(), "an append-only file and noeviction, whatever the connection"


def test_the_key_of_the_authority_is_with_nobody_else():
    services = LOADED["tls.yml"]["services"]
    has = {
        name for name, service in services.items() if any("tls-authority" in volume for volume in service["volumes"])
    }
    assert has == {"certificates"}
    assert all("tls-server" not in volume for name in OWN for volume in services[name]["volumes"])


def test_servers_under_sentinels_are_durable_as_the_plain_one_is():
    script = (OVER / "start_server.sh").read_text("utf-8")
    for line in ("appendonly yes", "appendfsync everysec", 'save \\"\\"', "maxmemory-policy noeviction"):
        assert line in script
    assert "min-replicas-to-write 1" in script


def test_sentinels_that_clients_ask_are_those_there_are():
    services = LOADED["sentinel.yml"]["services"]
    own = {
        name: service["networks"]["default"]["ipv4_address"]
        for name, service in services.items()
        if "networks" in service
    }
    assert len(set(own.values())) == len(own) == 6
    asked = services["worker"]["environment"]["BARQUE_REDIS_SENTINELS"].split(",")
    assert asked == [f"{own[f'sentinel-{number}']}:26379" for number in (1, 2, 3)]
    assert set(services["worker"]["depends_on"]) | {"redis"} == own.keys(), "else `up worker` starts some of them alone"
    told = {
        service["command"][-1]
        for service in services.values()
        if service.get("command", [])[2:3] in (["replica"], ["sentinel"])
    }
    assert told == {own["redis"]}


def test_profiles():
    assert {name: tuple(service.get("profiles", ())) for name, service in SERVICES.items()} == {
        "redis": (), "worker": (), "dashboard": ("dashboard",), "demo": ("demo",),
        "metrics": ("monitoring",), "prometheus": ("monitoring",), "grafana": ("monitoring",),
    }  # fmt: skip


@pytest.mark.parametrize(("file", "name"), ALL)
def test_a_container_may_do_as_little_as_it_needs(file, name):
    service = whole(file, name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name in OWN:
        assert "cap_add" not in service
        assert "user" not in service


@pytest.mark.parametrize(("file", "name"), ALL)
def test_a_container_that_stays_is_looked_after(file, name):
    service = whole(file, name)
    if service["restart"] == "no":
        assert service["healthcheck"] == {"disable": True}
        return
    assert service["restart"] == "unless-stopped"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert "healthcheck" in service or name == "worker"  # whose is the image's
    if isinstance(words := service.get("command"), str):
        pytest.fail(f"{words!r} goes through a shell, which keeps SIGTERM for itself")


@pytest.mark.parametrize(("file", "name"), ALL)
def test_ports_are_of_this_host_alone(file, name):
    for port in whole(file, name).get("ports", ()):
        assert re.match(r"\$\{\w+_ADDRESS:-127\.0\.0\.1:\d+\}:\d+$", port)


def test_images_are_of_a_version():
    images = {
        service["image"] for file in LOADED.values() for service in file["services"].values() if "image" in service
    }
    images |= set(re.findall(r"^ARG PYTHON_IMAGE=(.+)$", DOCKERFILE, re.MULTILINE))
    for image in images:
        name = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", image)
        assert re.search(r":(v?\d[\w.-]*|local)$", name), name


def test_a_worker_is_stopped_in_more_time_than_it_takes():
    (seconds,) = re.findall(r"STOP_GRACE_PERIOD:-(\d+)s", SERVICES["worker"]["stop_grace_period"])
    assert int(seconds) >= load_settings().shutdown_grace + 10


def test_files_that_are_mounted_are_there():
    for file in LOADED.values():
        for service in file["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                assert (
                    (ROOT / source).exists()
                    if source.startswith(".")
                    else source in file["volumes"] or source in LOADED["docker-compose.yml"]["volumes"]
                )


def test_the_health_check_and_the_command_are_the_images_own():
    assert 'CMD ["arq", "workers.WorkerSettings"]' in DOCKERFILE
    assert '  CMD ["barque", "health"]' in DOCKERFILE
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_make_gives_all_that_the_labels_want():
    """Defaults are no use: the version stands in pyproject.toml alone, and the commit nowhere."""
    wanted = set(re.findall(r"^ARG (\w+)=unknown$", DOCKERFILE, re.MULTILINE))
    assert wanted == set(re.findall(r'org\.opencontainers\.image\.\w+="\$\{(\w+)\}"', DOCKERFILE))
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nimage:")[2].partition("\n\n")[0]
    assert wanted == set(re.findall(r"--build-arg (\w+)=", recipe))


def test_what_the_image_is_made_of_is_all_that_the_engine_is_sent():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[1] == "*"
    packages = yaml.safe_load(
        "[" + re.search(r"include = \[(.+)\]", (ROOT / "pyproject.toml").read_text("utf-8"))[1] + "]"
    )
    assert {f"!{name}" for name in packages if not name.endswith("*")} <= set(lines)
    for line in lines[2:]:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists()


PROMETHEUS = yaml.safe_load((OVER / "prometheus.yml").read_text("utf-8"))
JOBS = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}


class TestPrometheus:
    def test_it_asks_where_the_metrics_are(self):
        (listen,) = re.findall(r":(\d+)$", SERVICES["metrics"]["command"][-1])
        assert JOBS["barque-fleet"]["static_configs"] == [{"targets": [f"metrics:{listen}"]}]
        assert JOBS["barque-workers"]["http_sd_configs"][0]["url"] == f"http://metrics:{listen}/targets"
        assert environment("worker")["BARQUE_METRICS_HOST"] == "0.0.0.0"

    def test_it_has_the_alerts(self):
        mounted = dict(volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"])
        assert PROMETHEUS["rule_files"] == [mounted["./deploy/prometheus-alerts.yml"]]

    def test_grafana_asks_it_and_has_the_dashboard(self):
        mounted = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
        (source,) = yaml.safe_load((OVER / "grafana/datasources/prometheus.yml").read_text("utf-8"))["datasources"]
        assert (source["type"], source["isDefault"]) == ("prometheus", True)
        assert source["url"] == "http://prometheus:9090"
        assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]
        (provider,) = yaml.safe_load((OVER / "grafana/dashboards/barque.yml").read_text("utf-8"))["providers"]
        dashboard = Path(mounted["./deploy/grafana-dashboard.json"])
        assert Path(provider["options"]["path"]) == dashboard.parent
        assert environment("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == str(dashboard)


@pytest.mark.parametrize("script", sorted(OVER.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_of_the_plain_shell(script):
    """Valkey's image has no bash; `sh -n` says whether it is a script at all."""
    assert script.read_text("utf-8").startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(script)], check=True)

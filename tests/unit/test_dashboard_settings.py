"""The dashboard's settings, and what has to be there before it listens: dashboard/settings.py, security/access.py."""

import re
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.setting_names import misspelt
from common.settings import Settings, load_settings
from dashboard.app import create_app
from dashboard.security.access import Access, check_exposure
from dashboard.settings import PREFIX, DashboardSettings, load_dashboard_settings

ROOT = Path(__file__).parents[2]

WRONG = {
    "HOST": [""],
    "PORT": ["-1", "65536", "http"],
    "ROOT_PATH": ["barque", "/a b", "/a/../b?"],
    "USER": [""],
    "PROXY_HEADER": ["X Forwarded", "", "Ä"],
    "TRUSTED_PROXIES": ["proxy", "10.0.0.0/33"],
    "SIGN_IN_ATTEMPTS": ["0", "many"],
    "READ_ONLY": ["perhaps"],
    "ARGUMENTS": ["some"],
    "MASK": ["(", "a{2,1}"],
    "TASKS": ["my_tasks.py"],
    "LONGEST_VALUE": ["15", "all"],
    "MAX_BODY_BYTES": ["1023", "x"],
}
FREE = {"ALLOWED_HOSTS", "PASSWORD", "PASSWORD_FILE", "TOKEN", "TOKEN_FILE"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_one_line_that_names_the_variable(monkeypatch, name, value):
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ConfigurationError, match=f"^{PREFIX}{name}: ") as raised:
        load_dashboard_settings()
    assert "\n" not in str(raised.value)


def test_these_are_all_the_settings():
    assert {name.upper() for name in DashboardSettings.model_fields} == WRONG.keys() | FREE


def test_each_says_what_it_means():
    assert [name for name, field in DashboardSettings.model_fields.items() if not field.description] == []


def test_each_is_in_the_page_and_in_the_example_file():
    page, example = (ROOT / "docs/dashboard.md").read_text("utf-8"), (ROOT / ".env.example").read_text("utf-8")
    names = [PREFIX + name.upper() for name in DashboardSettings.model_fields]
    assert [name for name in names if name not in page] == []
    assert [name for name in names if name not in example] == []


def test_compose_names_only_settings_there_are_and_shows_the_port_to_its_host_alone():
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    service = compose.partition("\n  dashboard:\n")[2].partition("\n  demo:\n")[0]
    named = set(re.findall(r"^ +BARQUE_DASHBOARD_(\w+):", service, re.MULTILINE))
    assert {"HOST", "PASSWORD"} <= named <= {name.upper() for name in DashboardSettings.model_fields}
    assert re.findall(r"DASHBOARD_ADDRESS:-([\d.]+):", service) == ["127.0.0.1"]
    assert 'profiles: ["dashboard"]' in service  # without a password it would start again and again


def test_an_unknown_one_cannot_be_given():
    with pytest.raises(ConfigurationError, match="no such setting of the dashboard: hots"):
        load_dashboard_settings(hots="x")


def test_a_file_that_is_no_text_is_an_error(monkeypatch, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff")
    monkeypatch.setattr("common.setting_names.ENV_FILE", tmp_path / ".env")
    with pytest.raises(ConfigurationError, match="cannot be read: it is not UTF-8"):
        load_dashboard_settings()


def test_a_slip_in_a_name_is_pointed_out_with_the_name_that_was_meant(monkeypatch):
    monkeypatch.setenv("BARQUE_DASHBOARD_PASWORD", "x")
    monkeypatch.setenv("BARQUE_DASHBOARD_HOST", "127.0.0.1")
    assert misspelt(Settings.prefix, Settings.names()) == []
    assert misspelt(PREFIX, DashboardSettings.model_fields) == [
        ("BARQUE_DASHBOARD_PASWORD", "BARQUE_DASHBOARD_PASSWORD")
    ]


def test_no_credential_is_shown():
    settings = DashboardSettings(password="hunter2hunter2", token="hunter2hunter2hunter2")
    assert "hunter2" not in repr(settings) + str(settings)


class TestExposure:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8", "LOCALHOST"])
    def test_on_loopback_nobody_has_to_sign_in(self, host):
        given = DashboardSettings(host=host)
        check_exposure(given, Access(given))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "barque.example", "128.0.0.1"])
    def test_anywhere_else_somebody_has_to(self, host):
        given = DashboardSettings(host=host)
        with pytest.raises(ConfigurationError, match=r"only with a credential.*BARQUE_DASHBOARD_PASSWORD"):
            create_app(Settings(), given)
        signed = DashboardSettings(host=host, password="long enough")
        assert create_app(Settings(), signed)


class TestCredentials:
    def access(self, **given):
        return Access(DashboardSettings(**given))

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            ({"password": ""}, "PASSWORD is empty"),
            ({"password": "short"}, "PASSWORD has 5 characters: give 8 or more"),
            ({"token": "only fifteen ch"}, "TOKEN has 15 characters: give 16 or more"),
            ({"proxy_header": "X-User"}, "say which with BARQUE_DASHBOARD_TRUSTED_PROXIES"),
            ({"user": "a:b", "password": "long enough"}, "USER has a colon"),
            ({"password": "long enough", "password_file": "/nowhere"}, "are both set"),
            ({"password_file": "/nowhere/at/all"}, "PASSWORD_FILE: /nowhere/at/all cannot be read: No such file"),
        ],
    )
    def test_one_that_is_of_no_use_is_an_error_that_does_not_quote_it(self, given, why):
        with pytest.raises(ConfigurationError, match=re.escape(why)) as raised:
            self.access(**given)
        assert "long enough" not in str(raised.value)

    def test_a_file_may_end_in_a_line_break(self, tmp_path):
        (tmp_path / "secret").write_text("correct horse\n")
        assert not self.access(password_file=tmp_path / "secret").is_open

    def test_a_file_that_is_no_text_is_an_error(self, tmp_path):
        (tmp_path / "secret").write_bytes(b"\xff" * 32)
        with pytest.raises(ConfigurationError, match="is not UTF-8"):
            self.access(token_file=tmp_path / "secret")

    def test_one_that_is_to_be_sent_by_a_program_alone_asks_a_browser_for_nothing(self):
        assert self.access(token="0123456789abcdef").challenges == ['Bearer realm="Barque"']


def test_a_worker_does_not_hold_them(monkeypatch):
    monkeypatch.setenv("BARQUE_DASHBOARD_PASSWORD", "hunter2hunter2")
    assert "hunter2" not in repr(vars(load_settings()))

"""common/ports.py: one port, a range, or any."""

import pytest

from common.errors import ConfigurationError
from common.ports import read_ports
from common.settings import load_settings


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("9464", range(9464, 9465)),
        (" 9464 - 9467 ", range(9464, 9468)),
        ("0", range(1)),
        ("65535", range(65535, 65536)),
        ("9464-9464", range(9464, 9465)),
    ],
)
def test_what_names_ports(text, ports):
    assert read_ports(text) == ports


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("web", "'web' is no port: give a port, such as 9464"),
        ("", "is no port"),
        ("-1", "is no port"),
        ("65536", "is no port"),
        ("9464-", "is no port"),
        ("9464-9466-9468", "is no port"),
        ("٩٤٦٤", "is no port"),
        ("9" * 5000, "is no port"),
        ("9467-9464", "is no range of ports"),
        ("0-5", "is no range of ports"),
        ("1-65535", "is a range of 65,535 ports: give 256 at most"),
    ],
)
def test_what_names_none_is_said(text, told):
    with pytest.raises(ValueError, match=told):
        read_ports(text)


def test_it_is_a_setting(monkeypatch):
    assert load_settings().metrics_ports is None
    assert load_settings(metrics_port=9464).metrics_ports == range(9464, 9465)
    monkeypatch.setenv("BARQUE_METRICS_PORT", "9464-9467")
    assert load_settings().metrics_ports == range(9464, 9468)
    monkeypatch.setenv("BARQUE_METRICS_PORT", "ninety")
    with pytest.raises(ConfigurationError, match="BARQUE_METRICS_PORT: 'ninety' is no port: give a port"):
        load_settings()

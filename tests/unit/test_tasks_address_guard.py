"""Which addresses HTTP tasks may reach, however they are written."""

import ipaddress

import pytest

from workers.tasks.address_guard import AddressGuard, literal_address
from workers.tasks.http_errors import ForbiddenAddress

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"]
CLOSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address):
    AddressGuard().check_address(address)
    AddressGuard().check_host(address)


@pytest.mark.parametrize("address", CLOSED)
def test_all_others_are_refused(address):
    with pytest.raises(ForbiddenAddress, match="BARQUE_HTTP_ALLOW_PRIVATE"):
        AddressGuard().check_address(address)
    with pytest.raises(ForbiddenAddress):
        AddressGuard().check_host(address)


@pytest.mark.parametrize("address", CLOSED)
def test_all_pass_where_private_ones_are_allowed(address):
    AddressGuard(allow_private=True).check_address(address)


@pytest.mark.parametrize("address", ["::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_ipv4_address_carried_in_ipv6_is_judged_itself(address):
    # A network without IPv4 reaches every IPv4 host through 64:ff9b::/96.
    AddressGuard().check_address(address)


@pytest.mark.parametrize("text", ["", "localhost", "999.1.1.1", "127.0.0.1:80"])
def test_what_is_no_address_is_refused_where_one_is_due(text):
    with pytest.raises(ForbiddenAddress):
        AddressGuard().check_address(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "127.1",
        "127.0.1",
        "0x7F.0x0.0x0.0x1",
    ],
)
def test_every_way_to_write_loopback_is_read(host):
    assert literal_address(host) == ipaddress.ip_address("127.0.0.1")
    with pytest.raises(ForbiddenAddress):
        AddressGuard().check_host(host)


def test_brackets_of_an_ipv6_host_are_no_part_of_it():
    assert literal_address("[::1]") == ipaddress.ip_address("::1")


@pytest.mark.parametrize("host", ["example.org", "1.example", "0x7f.example", "a.b.c.d", "", "1.2.3.4.5"])
def test_names_are_left_to_the_resolver(host):
    assert literal_address(host) is None
    AddressGuard().check_host(host)

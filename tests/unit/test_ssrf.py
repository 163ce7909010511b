"""Tests of the SSRF check: requests go to public addresses only, in every spelling."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.infrastructure.outbound.ssrf import AddressNotAllowed, create_public_socket, is_public

PUBLIC = ["1.1.1.1", "93.184.215.14", "223.5.5.5", "2606:4700:4700::1111", "2400:3200::1"]

NOT_PUBLIC = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.2.1"),
    *("198.18.0.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
    *("255.255.255.255", "192.88.99.1", "192.0.0.8"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"),
    *("64:ff9b:1::1", "2002:7f00:1::1", "2002:101:101::1", "2001::1", "2001:db8::1"),
    *("3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1"),
]

SPELLINGS = ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost"]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_address_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_special_purpose_address_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_ipv4_address_embedded_in_ipv6_is_not_public(ipv4_address: ipaddress.IPv4Address) -> None:
    number = int(ipv4_address)
    for embedded in (
        number,
        (0xFFFF << 32) | number,
        int(ipaddress.IPv6Address("64:ff9b::")) | number,
        (0x2002 << 112) | (number << 80) | 1,
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
    ):
        assert not is_public(ipaddress.IPv6Address(embedded))


@pytest.mark.parametrize("host", SPELLINGS)
def test_unusual_spelling_of_a_private_address_is_refused(host: str) -> None:
    for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM):
        with pytest.raises(AddressNotAllowed, match="is not a public address"):
            create_public_socket(info)


def test_each_address_of_a_name_is_checked() -> None:
    public, private = (
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 443)) for host in ("1.1.1.1", "10.0.0.1")
    )

    create_public_socket(public).close()
    with pytest.raises(AddressNotAllowed):
        create_public_socket(private)


def test_link_local_address_with_zone_is_refused() -> None:
    info = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("fe80::1%lo", 443, 0, 1))
    with pytest.raises(AddressNotAllowed, match="fe80::1 is not a public address"):
        create_public_socket(info)

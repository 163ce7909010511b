"""Scans for login policies to judge, and a file of countries."""

from __future__ import annotations

from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from broker.identity.model import Identity
from broker.login.model import Browser
from broker.login.ports import PolicyCase

ALICE = Identity("wechat", "canary-openid", None, "wx0123456789abcdef")

CASE = PolicyCase(
    app="shop",
    login_id="login-1",
    began_at=1_000_000.0,
    browser=Browser("1.1.1.1", "Firefox"),
    known=False,
    phone_ip="8.8.8.8",
    how=1047,
    identity=ALICE,
)
"""A scan by camera, in another network, of an unknown browser."""


def case_of(*, browser_ip: str = "1.1.1.1", **changes: object) -> PolicyCase:
    return CASE._replace(browser=Browser(browser_ip, "Firefox"), **changes)  # type: ignore[arg-type]


def write_countries(file: Path, **networks: str) -> Path:
    """Write an MMDB file that maps one IPv4 network to each country."""
    writer = MMDBWriter(ip_version=4, database_type="Countries")
    for country, network in networks.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    writer.to_db_file(str(file))
    return file

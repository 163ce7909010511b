"""The built-in policy: rules over how the code was scanned, and where browser and phone are."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

from broker.infrastructure.clock import Clock
from broker.infrastructure.outbound.ssrf import Address, is_public
from broker.infrastructure.settings import Settings
from broker.login.model import Decision, Verdict
from broker.login.ports import PolicyCase
from broker.policies.countries import Countries, open_countries
from broker.policies.metrics import POLICY_ANSWERS
from broker.policies.settings import PolicySettings

PICTURE_SCENES = frozenset({1012, 1013, 1048, 1049})
"""WeChat's launch scenes of a picture: long-press and album, for QR codes and for mini program
codes. The code may be in a mail or a chat."""

IPV6_NETWORK_BITS = 64
"""A home or office network has at least a /64 (RFC 6177)."""


class Rule(NamedTuple):
    """name: the reason in the audit log. The first rule that applies decides."""

    name: str
    decision: Decision
    applies: Callable[[PolicyCase, Countries], bool]


def _is_from_picture(case: PolicyCase, countries: Countries) -> bool:
    return case.how in PICTURE_SCENES


def _is_known(case: PolicyCase, countries: Countries) -> bool:
    return case.known


def _is_same_network(case: PolicyCase, countries: Countries) -> bool:
    """Private addresses do not count: behind an untrusted proxy all clients have the same one."""
    browser, phone = _public_network(case.browser.ip), _public_network(case.phone_ip)
    return browser is not None and browser == phone


def _is_same_country(case: PolicyCase, countries: Countries) -> bool:
    country = countries.find(case.browser.ip)
    return country is not None and country == countries.find(case.phone_ip)


RULES: Sequence[Rule] = (
    Rule("picture", Decision.CHALLENGE, _is_from_picture),
    Rule("known_browser", Decision.ALLOW, _is_known),
    Rule("same_network", Decision.ALLOW, _is_same_network),
    Rule("same_country", Decision.ALLOW, _is_same_country),
    Rule("no_proximity", Decision.CHALLENGE, lambda case, countries: True),
)


class BuiltInPolicy:
    """Applies `RULES`."""

    def __init__(self, countries: Countries) -> None:
        self._countries = countries

    async def open(self) -> None:
        """Do nothing: there is no connection."""

    async def close(self) -> None:
        self._countries.close()

    async def judge(self, case: PolicyCase) -> Verdict:
        rule = next(rule for rule in RULES if rule.applies(case, self._countries))
        POLICY_ANSWERS.labels(rule.decision).inc()
        return Verdict(rule.decision, rule.name)


def _public_network(ip: str) -> object:
    """Return the IPv4 address, or the /64 of an IPv6 address; None if it is not public."""
    try:
        address: Address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not is_public(address):
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False)


def open_policy(settings: Settings, clock: Clock) -> BuiltInPolicy:
    """Raises ValueError for a GEO file that cannot be read."""
    return BuiltInPolicy(open_countries(settings[PolicySettings].geo_file))

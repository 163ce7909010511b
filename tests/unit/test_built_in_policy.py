"""Tests of the built-in login policy: its rules, their order, and countries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.errors import InvalidSettings
from broker.login.model import Decision
from broker.login.ports import PolicyCase
from broker.policies.built_in import BuiltInPolicy
from broker.policies.countries import open_countries
from broker.settings import load_settings
from tests.support.policy import CASE, case_of, write_countries

NOWHERE = BuiltInPolicy(open_countries(None))


async def decision(case: PolicyCase, policy: BuiltInPolicy = NOWHERE) -> Decision:
    return (await policy.judge(case)).decision


async def test_scan_without_proximity_is_challenged() -> None:
    assert await NOWHERE.judge(CASE) == (Decision.CHALLENGE, "no_proximity")


@pytest.mark.parametrize("how", [1012, 1013, 1048, 1049])
async def test_picture_is_challenged_despite_known_browser(how: int) -> None:
    assert await decision(case_of(how=how, known=True)) is Decision.CHALLENGE


@pytest.mark.parametrize("how", [None, 0, 1011, 1047, -1])
async def test_known_browser_is_allowed_with_other_scenes(how: int | None) -> None:
    assert await decision(case_of(how=how, known=True)) is Decision.ALLOW


@pytest.mark.parametrize(
    ("browser", "phone"),
    [
        ("1.1.1.1", "1.1.1.1"),
        ("2606:4700:4700:1::1", "2606:4700:4700:1:ffff::2"),
        ("::ffff:1.1.1.1", "1.1.1.1"),
    ],
)
async def test_same_public_network_is_allowed(browser: str, phone: str) -> None:
    assert await decision(case_of(browser_ip=browser, phone_ip=phone)) is Decision.ALLOW


@pytest.mark.parametrize(
    ("browser", "phone"),
    [
        ("1.1.1.1", "1.1.1.2"),
        ("2606:4700:4700:1::1", "2606:4700:4700:2::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
async def test_other_network_is_challenged(browser: str, phone: str) -> None:
    assert await decision(case_of(browser_ip=browser, phone_ip=phone)) is Decision.CHALLENGE


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("1.2.3.4", Decision.ALLOW),
        ("8.8.8.8", Decision.CHALLENGE),
        ("9.9.9.9", Decision.CHALLENGE),
        ("2606:4700::1", Decision.CHALLENGE),
        ("unknown", Decision.CHALLENGE),
    ],
)
async def test_same_country_is_allowed(tmp_path: Path, phone: str, expected: Decision) -> None:
    file = write_countries(tmp_path / "countries.mmdb", AU="1.0.0.0/8", US="8.0.0.0/8")
    policy = BuiltInPolicy(open_countries(str(file)))

    assert await decision(case_of(phone_ip=phone), policy) is expected


async def test_two_unknown_countries_are_not_the_same(tmp_path: Path) -> None:
    file = write_countries(tmp_path / "countries.mmdb", US="8.0.0.0/8")
    policy = BuiltInPolicy(open_countries(str(file)))

    assert await decision(case_of(phone_ip="9.9.9.9"), policy) is Decision.CHALLENGE


def test_missing_countries_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        open_countries(str(tmp_path / "countries.mmdb"))


def test_file_without_countries_is_reported(tmp_path: Path) -> None:
    (tmp_path / "countries.mmdb").write_bytes(b"x" * 1000)

    with pytest.raises(ValueError, match="is not an MMDB file"):
        open_countries(str(tmp_path / "countries.mmdb"))


@pytest.mark.parametrize(
    ("values", "mistake"),
    [
        ({"policy": "strict"}, "SCAN_LOGIN_POLICY: use off, built-in, or the https URL"),
        ({"policy": "https://site.example/hook"}, "SCAN_LOGIN_POLICY_SECRET: missing"),
        (
            {"policy": "http://site.example/hook", "policy_secret": ("whsec_" + "A" * 32,)},
            "SCAN_LOGIN_POLICY: use https",
        ),
        (
            {"policy": "https://10.0.0.1/hook", "policy_secret": ("whsec_" + "A" * 32,)},
            "SCAN_LOGIN_POLICY: 10.0.0.1 is not a public address",
        ),
    ],
)
def test_unusable_policy_setting_is_refused(values: dict[str, Any], mistake: str) -> None:
    with pytest.raises(InvalidSettings, match=mistake):
        load_settings(**values)

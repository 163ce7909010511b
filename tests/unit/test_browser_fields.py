"""Tests of the fields that a browser shows of the person who scanned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.identity.model import UserProfile
from broker.login.browser_fields import mask_name, mask_profile
from tests.support.builders import SHOP

ALICE = UserProfile(subject="user-1", name="Alice", picture="https://site.example/a.png")
PICTURES = replace(SHOP, show_scanner="picture")


@pytest.mark.parametrize(
    ("name", "masked"), [("Alice Smith", "A***"), (" 小明", "小***"), ("B", "B***"), (" ", "")]
)
def test_name_is_masked_whatever_its_length(name: str, masked: str) -> None:
    assert mask_name(name) == masked


def test_nickname_comes_before_the_name() -> None:
    assert mask_profile(replace(ALICE, nickname="Wonder"), PICTURES)["name"] == "W***"


def test_picture_needs_the_consent_of_the_app() -> None:
    assert mask_profile(ALICE, PICTURES) == {"name": "A***", "picture": ALICE.picture}
    assert mask_profile(ALICE, replace(SHOP, show_scanner="name")) == {"name": "A***"}


@pytest.mark.parametrize("picture", ["javascript:alert(1)", "data:image/png;base64,AA", "", None])
def test_picture_that_is_not_a_web_url_is_dropped(picture: str | None) -> None:
    assert "picture" not in mask_profile(replace(ALICE, picture=picture), PICTURES)

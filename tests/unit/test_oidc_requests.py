"""The checks of authorization requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from broker.apps.model import App
from broker.errors import BrokerError, InvalidRequest
from broker.oidc.requests import (
    FIELD_MAX,
    HINT_TOTAL_MAX,
    MAX_AGE_MAX,
    TOTAL_MAX,
    Destination,
    Fields,
    ParsedRequest,
    find_destination,
    parse_request,
    shown_scopes,
)
from broker.oidc.rules import RESPONSE_MODES

CALLBACK = "https://site.example/cb"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
VALID = {"client_id": "site", "redirect_uri": CALLBACK, "response_type": "code"}
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}


def site(**options: Any) -> App:
    values = {"redirect_urls": frozenset({CALLBACK}), **options}
    return App(id="site", name="Site", origins=frozenset(), **values)


def parse(fields: Mapping[str, str], **options: Any) -> ParsedRequest:
    app, all_fields = site(**options), Fields({**VALID, **fields}.items())
    return parse_request(all_fields, app, find_destination(all_fields, app))


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("no response type", {"response_type": ""}, "unsupported_response_type"),
    ("implicit flow", {"response_type": "id_token"}, "unsupported_response_type"),
    ("hybrid flow", {"response_type": "code id_token"}, "unsupported_response_type"),
    ("fragment mode", {"response_mode": "fragment"}, "invalid_request"),
    ("web message mode", {"response_mode": "web_message"}, "invalid_request"),
    ("request object", {"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    ("request URI", {"request_uri": "https://site.example/r"}, "request_uri_not_supported"),
    ("long state", {"state": "s" * (FIELD_MAX + 1)}, "invalid_request"),
    ("long unknown field", {"x": "s" * (FIELD_MAX + 1)}, "invalid_request"),
    ("long name", {"n" * (TOTAL_MAX + 1): "1"}, "invalid_request"),
    ("many fields", {f"f{n}": "s" * 2_000 for n in range(5)}, "invalid_request"),
    ("long hint", {"id_token_hint": "h" * HINT_TOTAL_MAX}, "invalid_request"),
    ("plain challenge", {"code_challenge": CHALLENGE}, "invalid_request"),
    ("plain method", {**PKCE, "code_challenge_method": "plain"}, "invalid_request"),
    ("short challenge", {**PKCE, "code_challenge": CHALLENGE[1:]}, "invalid_request"),
    ("challenge with line", {**PKCE, "code_challenge": CHALLENGE[1:] + "\n"}, "invalid_request"),
    ("challenge in base64", {**PKCE, "code_challenge": CHALLENGE[1:] + "+"}, "invalid_request"),
    ("none and login", {"prompt": "none login"}, "invalid_request"),
    ("none and unknown", {"prompt": "none create"}, "invalid_request"),
    ("negative age", {"max_age": "-1"}, "invalid_request"),
    ("fraction of age", {"max_age": "1.5"}, "invalid_request"),
    ("age too large", {"max_age": str(MAX_AGE_MAX + 1)}, "invalid_request"),
    ("age in other digits", {"max_age": "١٠"}, "invalid_request"),
    ("age of many digits", {"max_age": "9" * 2_000}, "invalid_request"),
]


@pytest.mark.parametrize(
    ("fields", "word"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_wrong_request_is_refused(fields: dict[str, str], word: str) -> None:
    with pytest.raises(BrokerError) as caught:
        parse(fields)

    assert caught.value.error == word


ORDER: list[dict[str, str]] = [
    {"response_type": "token"},
    {"response_mode": "fragment"},
    {"request": "x"},
    {"request_uri": "https://site.example/r"},
    {"state": "s" * (FIELD_MAX + 1)},
    {"code_challenge": "short"},
    {"prompt": "none login"},
    {"max_age": "-1"},
]
"""Mistakes, the first of which is reported first."""


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_earliest_mistake_is_reported(first: int) -> None:
    together: dict[str, str] = {}
    for mistake in ORDER[first:]:
        together |= mistake

    with pytest.raises(BrokerError) as alone:
        parse(ORDER[first])
    with pytest.raises(BrokerError) as caught:
        parse(together)

    assert str(caught.value) == str(alone.value)


@pytest.mark.parametrize("name", ["state", "nonce", "scope", "x"])
def test_repeated_field_is_refused(name: str) -> None:
    app, fields = site(), Fields([*VALID.items(), (name, "1"), (name, "1")])

    with pytest.raises(InvalidRequest):
        parse_request(fields, app, find_destination(fields, app))


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_repeated_destination_is_for_a_page(name: str) -> None:
    fields = Fields([(name, VALID[name]), *VALID.items()])

    with pytest.raises(InvalidRequest):
        find_destination(fields, site())


FOREIGN_URLS = [
    "",
    "https://evil.example/cb",
    "//evil.example/cb",
    "https:site.example/cb",
    "https:\\\\site.example/cb",
    "https://site.example\\@evil.example/cb",
    "https://site.example@evil.example/cb",
    "https://site.example.evil.example/cb",
    "https://site.example:443/cb",
    "http://site.example/cb",
    "HTTPS://site.example/cb",
    "https://SITE.example/cb",
    "https://site.example/cb/",
    "https://site.example/cb?x=1",
    "https://site.example/cb#",
    "https://site.example/cb/../cb",
    "https://site.example/%63b",
    "https://site.example/cb%0d%0aSet-Cookie:x",
    "https://site.example/cb\r\nSet-Cookie: x",
    "https://site.example/cb\n",
    " https://site.example/cb",
    "https://site.example/cb\x00",
    "https://ѕite.example/cb",
    "https://site。example/cb",
    "javascript:alert(1)",
    "data:text/html,x",
]


@pytest.mark.parametrize("url", FOREIGN_URLS)
def test_foreign_redirect_uri_is_for_a_page(url: str) -> None:
    with pytest.raises(InvalidRequest):
        find_destination(Fields({**VALID, "redirect_uri": url}.items()), site(loopback=True))


LOOPBACK = "http://127.0.0.1/cb"

LOOPBACK_URLS = [
    ("http://127.0.0.1:1/cb", True),
    ("http://127.0.0.1:65535/cb", True),
    ("http://127.0.0.1:/cb", False),
    ("http://127.0.0.1:1/other", False),
    ("http://127.0.0.1:1/cb?x=1", False),
    ("http://127.0.0.1:1/cb#x", False),
    ("http://127.0.0.1:1@evil.example/cb", False),
    ("http://127.0.0.1.evil.example/cb", False),
    ("http://127.0.0.2:1/cb", False),
    ("http://localhost:1/cb", False),
    ("https://127.0.0.1:1/cb", False),
    ("http://[::1]:1/cb", False),
    ("http://127.0.0.1:1/cb\n", False),
]


@pytest.mark.parametrize(("url", "is_accepted"), LOOPBACK_URLS)
def test_loopback_redirect_uri_may_have_another_port(url: str, is_accepted: bool) -> None:
    app = site(redirect_urls=frozenset({LOOPBACK}), loopback=True)
    fields = Fields({**VALID, "redirect_uri": url}.items())

    if is_accepted:
        assert find_destination(fields, app).redirect_uri == url
    else:
        with pytest.raises(InvalidRequest):
            find_destination(fields, app)


def test_loopback_port_is_exact_without_the_option() -> None:
    app = site(redirect_urls=frozenset({LOOPBACK}))

    with pytest.raises(InvalidRequest):
        find_destination(Fields({**VALID, "redirect_uri": "http://127.0.0.1:1/cb"}.items()), app)


def test_ipv6_loopback_may_have_another_port() -> None:
    app = site(redirect_urls=frozenset({"http://[::1]:8000/cb"}), loopback=True)
    fields = Fields({**VALID, "redirect_uri": "http://[::1]:9/cb"}.items())

    assert find_destination(fields, app).redirect_uri == "http://[::1]:9/cb"


def test_app_without_redirect_urls_is_for_a_page() -> None:
    with pytest.raises(InvalidRequest):
        find_destination(Fields(VALID.items()), site(redirect_urls=frozenset()))


@pytest.mark.parametrize("options", [{"client_type": "public"}, {"pkce": "required"}])
def test_required_challenge_is_missing(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match="code_challenge"):
        parse({}, **options)


@pytest.mark.parametrize("mode", RESPONSE_MODES)
def test_destination_keeps_mode_and_state(mode: str) -> None:
    parsed = parse({"response_mode": mode, "state": "a b"})

    assert parsed.destination == Destination(CALLBACK, mode, "a b", "")


def test_destination_of_a_wrong_mode_is_the_query() -> None:
    fields = Fields({**VALID, "response_mode": "fragment"}.items())

    assert find_destination(fields, site()).response_mode == "query"


GRANTED: list[tuple[dict[str, str], str, object]] = [
    ({}, "scope", ()),
    ({"scope": "profile openid"}, "scope", ("openid", "profile")),
    ({"scope": "openid openid email x"}, "scope", ("openid",)),
    ({"scope": "OpenID"}, "scope", ()),
    ({}, "prompt", ""),
    ({"prompt": "none"}, "prompt", "none"),
    ({"prompt": "consent"}, "prompt", ""),
    ({"prompt": "select_account login"}, "prompt", "login"),
    ({"max_age": "0"}, "max_age", 0),
    ({"max_age": str(MAX_AGE_MAX)}, "max_age", MAX_AGE_MAX),
    ({}, "max_age", None),
    ({"acr_values": "x urn:scan-login:match"}, "match", True),
    ({"acr_values": "urn:scan-login:scan"}, "match", False),
    ({"nonce": "n"}, "nonce", "n"),
    ({"login_hint": "alice"}, "login_hint", "alice"),
    (PKCE, "code_challenge", CHALLENGE),
    ({"code_challenge_method": "S256"}, "code_challenge", None),
    ({"request": "", "request_uri": "", "max_age": "", "response_mode": ""}, "max_age", None),
    ({"display": "popup", "claims_locales": "en", "x": "1"}, "scope", ()),
    ({"claims": '{"id_token": {"nickname": {"essential": true}}}'}, "claims", ("nickname",)),
    ({"claims": '{"userinfo": {"name": null, "email": null}}'}, "claims", ("name",)),
    ({"claims": '{"userinfo": {"sub": null}}'}, "claims", ()),
    ({"claims": "{"}, "claims", ()),
    ({"claims": "[]"}, "claims", ()),
    ({"claims": "1"}, "claims", ()),
    ({"claims": '{"userinfo": 5}'}, "claims", ()),
    ({"claims": '{"userinfo": "name"}'}, "claims", ()),
    ({"claims": '{"userinfo": [["name"]]}'}, "claims", ()),
    ({"claims": "[" * 2_000}, "claims", ()),
]


@pytest.mark.parametrize(("fields", "name", "value"), GRANTED)
def test_field_of_a_valid_request(fields: dict[str, str], name: str, value: object) -> None:
    assert getattr(parse(fields), name) == value


@pytest.mark.parametrize(
    ("locales", "language"),
    [("fr zh-Hans-CN en", "zh"), ("EN-gb", "en"), ("fr", ""), ("english", ""), ("", "")],
)
def test_page_language_is_the_first_known_locale(locales: str, language: str) -> None:
    assert parse({"ui_locales": locales}).destination.language == language


def test_hint_may_be_longer_than_a_field() -> None:
    hint = "h" * (TOTAL_MAX + 1)

    assert parse({"id_token_hint": hint}).id_token_hint == hint


def test_phone_shows_the_scopes_of_single_claims() -> None:
    assert shown_scopes(("openid",), ("email",)) == ("openid", "email")

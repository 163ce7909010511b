"""Tests of client authentication at the OAuth endpoints, and of CORS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote_plus

import aiohttp
import pytest

from tests.support.builders import StartBroker
from tests.support.oidc_app import (
    SETTINGS,
    Answer,
    ProfileDirectory,
    RelyingParty,
    new_challenge,
    relying_party,
)
from tests.support.session_server import basic

ENDPOINTS = ["token", "device_authorization", "par", "introspect", "revoke"]

ORIGIN = "https://shop.example"


@pytest.fixture
async def app(start_broker: StartBroker) -> AsyncIterator[RelyingParty]:
    broker = await start_broker(ProfileDirectory(), **SETTINGS)
    async with relying_party(broker, origins=[ORIGIN]) as app:
        yield app


async def introspect(app: RelyingParty, authorization: str | None = None, **form: str) -> Answer:
    headers = {} if authorization is None else {"Authorization": authorization}
    data = {"token": "unknown", **form}
    return await app.request("POST", "introspect", data=data, headers=headers)


async def test_secret_is_accepted_in_header_and_form(app: RelyingParty) -> None:
    in_header = await introspect(app, basic(app.id, app.secret))
    in_form = await introspect(app, client_id=app.id, client_secret=app.secret)
    with_id = await introspect(app, basic(app.id, app.secret), client_id=app.id)

    assert [one.body for one in (in_header, in_form, with_id)] == [{"active": False}] * 3


async def test_basic_credentials_are_form_decoded(app: RelyingParty) -> None:
    encoded = basic("%73hop", quote_plus(app.secret))

    assert (await introspect(app, encoded)).status == 200


async def test_two_methods_are_an_invalid_request(app: RelyingParty) -> None:
    answer = await introspect(app, basic(app.id, app.secret), client_secret=app.secret)

    assert (answer.status, answer.error) == (400, "invalid_request")


async def test_client_id_of_another_app_is_refused(app: RelyingParty) -> None:
    answer = await introspect(app, basic(app.id, app.secret), client_id="other")

    assert (answer.status, answer.error) == (400, "invalid_request")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_wrong_secret_gets_a_basic_challenge(app: RelyingParty, endpoint: str) -> None:
    headers = {"Authorization": basic(app.id, "wrong")}
    form = {"token": "x", "grant_type": "refresh_token", "response_type": "code"}

    answer = await app.request("POST", endpoint, data=form, headers=headers)

    assert (answer.status, answer.error) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="scan-login"'


@pytest.mark.parametrize("header", ["Bearer x", "Basic", "Basic !", "Basic eA=="], ids=str)
async def test_malformed_credentials_are_refused(app: RelyingParty, header: str) -> None:
    answer = await introspect(app, header)

    assert (answer.status, answer.error) == (401, "invalid_client")


async def test_public_app_needs_no_secret(app: RelyingParty) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"client_type": "public"})
    challenge = new_challenge()

    with_secret = await app.post("revoke", token="x")
    app.secret = ""
    answer = await app.exchange(
        await app.code(**challenge.fields), code_verifier=challenge.verifier
    )

    assert (with_secret.status, with_secret.error) == (401, "invalid_client")
    assert answer.status == 200
    assert (await app.refresh(answer.body["refresh_token"])).status == 200
    assert (await app.post("introspect", token="x")).error == "invalid_client"


@pytest.mark.parametrize("endpoint", ["token", "par", "introspect", "revoke"])
async def test_confidential_app_needs_its_secret(app: RelyingParty, endpoint: str) -> None:
    form = {
        "client_id": app.id,
        "token": "x",
        "grant_type": "refresh_token",
        "refresh_token": "x",
        "redirect_uri": "https://shop.example/callback",
        "response_type": "code",
    }

    answer = await app.request("POST", endpoint, data=form)

    assert (answer.status, answer.error) == (401, "invalid_client")


async def test_code_needs_the_secret_of_its_app(app: RelyingParty) -> None:
    code, secret = await app.code(), app.secret

    app.secret = ""
    without_secret = await app.exchange(code)
    app.secret = secret

    assert (without_secret.status, without_secret.error) == (401, "invalid_client")
    assert (await app.exchange(code)).status == 200


async def test_wrong_secrets_are_limited_and_right_one_works(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(ProfileDirectory(), **SETTINGS, misses_per_minute=3)
    async with relying_party(broker) as app:
        answers = [await introspect(app, basic(app.id, "wrong")) for _ in range(5)]
        right = await introspect(app, basic(app.id, app.secret))

    assert [one.status for one in answers] == [401, 401, 401, 429, 429]
    assert right.status == 200


async def test_failed_grants_count_without_secret_only(start_broker: StartBroker) -> None:
    broker = await start_broker(ProfileDirectory(), **SETTINGS, misses_per_minute=3)
    async with (
        relying_party(broker) as shop,
        relying_party(broker, "spa", client_type="public") as spa,
    ):
        with_secret = [await shop.exchange("c" * 43) for _ in range(5)]
        without_secret = [await spa.exchange("c" * 43) for _ in range(5)]

    assert [one.status for one in with_secret] == [400] * 5
    assert [one.status for one in without_secret] == [400, 400, 400, 429, 429]


async def test_missing_secret_is_not_a_failed_attempt(start_broker: StartBroker) -> None:
    broker = await start_broker(ProfileDirectory(), **SETTINGS, misses_per_minute=1)
    async with relying_party(broker) as app:
        answers = [await introspect(app, client_id=app.id) for _ in range(3)]

    assert [one.status for one in answers] == [401] * 3


@pytest.mark.parametrize(
    ("endpoint", "is_readable"),
    [
        *((name, True) for name in ("token", "userinfo", "revoke", "device_authorization")),
        *((name, False) for name in ("authorize", "login", "logout", "par", "introspect")),
    ],
)
async def test_pages_may_read_some_endpoints(
    app: RelyingParty, endpoint: str, is_readable: bool
) -> None:
    answer = await app.request("POST", endpoint, headers={"Origin": ORIGIN}, data={"x": "1"})

    allowed = answer.headers.get("Access-Control-Allow-Origin")
    assert allowed == (ORIGIN if is_readable else None)
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_preflight_allows_the_authorization_header(app: RelyingParty) -> None:
    answer = await app.request("OPTIONS", "userinfo", headers={"Origin": ORIGIN})

    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"]


async def test_foreign_origin_is_refused_at_token(app: RelyingParty) -> None:
    headers = {"Origin": "https://evil.example", "Authorization": basic(app.id, app.secret)}
    form = {"grant_type": "refresh_token", "refresh_token": "x"}

    answer = await app.request("POST", "token", headers=headers, data=form)

    assert (answer.status, answer.error) == (401, "invalid_client")
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_pushed_request_works_once(app: RelyingParty) -> None:
    pushed = await app.post(
        "par",
        redirect_uri="https://shop.example/callback",
        response_type="code",
        scope="openid",
    )
    url = f"{app.url}/oauth/authorize"
    query = {"client_id": app.id, "request_uri": pushed.body["request_uri"]}

    statuses = []
    for _ in range(2):
        async with aiohttp.ClientSession() as browser, browser.get(url, params=query) as response:
            statuses.append(response.status)

    assert (pushed.status, pushed.body["expires_in"]) == (201, 60)
    assert statuses == [200, 400]


async def test_pushed_request_is_checked_at_once(app: RelyingParty) -> None:
    wrong_url = await app.post(
        "par", redirect_uri="https://evil.example/callback", response_type="code"
    )
    wrong_type = await app.post(
        "par", redirect_uri="https://shop.example/callback", response_type="token"
    )

    assert (wrong_url.status, wrong_url.error) == (400, "invalid_request")
    assert (wrong_type.status, wrong_type.error) == (400, "unsupported_response_type")

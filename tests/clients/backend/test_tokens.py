"""The verifiers of both languages, with the same tokens and keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.bad_tokens import AUDIENCE, ISSUER, NOW, Signer, bad_tokens, good_tokens
from tests.support.client_driver import Driver, KeyServer, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERIFIERS = ["Verifier", "AsyncVerifier", "Node"]
DAY = 24 * 3600

SIGNER = Signer("first")
GOOD = good_tokens(SIGNER)
BAD = bad_tokens(SIGNER)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=VERIFIERS)
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    folder = "node_folder" if request.param == "Node" else "python_folder"
    async with running(request.param, request.getfixturevalue(folder)) as driver:
        yield driver


@pytest_asyncio.fixture(loop_scope="module")
async def broker(driver: Driver) -> AsyncIterator[KeyServer]:
    """The keys of a broker, and a new verifier."""
    server = KeyServer(SIGNER.public)
    async with server.serving():
        await driver.make_verifier(issuer=ISSUER, audience=AUDIENCE, keys_url=server.url)
        yield server


def errors(answers: list[dict[str, object]]) -> list[object]:
    return [answer.get("error") for answer in answers]


async def test_valid_tokens_are_accepted(driver: Driver, broker: KeyServer) -> None:
    answers = await driver.verify(*GOOD.values(), now=NOW)

    assert dict(zip(GOOD, errors(answers), strict=True)) == dict.fromkeys(GOOD)


async def test_claims_are_those_of_the_token(driver: Driver, broker: KeyServer) -> None:
    [answer] = await driver.verify(
        SIGNER.token(scope="openid profile", name="Alice", shoe=42), now=NOW
    )

    claims = answer["done"]
    names = ("iss", "sub", "exp", "iat", "jti", "auth_time", "amr", "idp", "client_id", "name")
    assert {name: claims[name] for name in names} == {
        **{"iss": ISSUER, "sub": "pretend:alice", "client_id": AUDIENCE, "jti": "token-1"},
        **{"exp": NOW + 600, "iat": NOW, "auth_time": NOW - 2, "amr": ["scan"], "idp": "pretend"},
        "name": "Alice",
    }
    assert claims["scope"] in ("openid profile", ["openid", "profile"])
    assert claims.get("extra", claims)["shoe"] == 42


async def test_bad_tokens_are_refused(driver: Driver, broker: KeyServer) -> None:
    """The valid token shows that each one is refused because of its change."""
    answers = await driver.verify(GOOD["valid"], *BAD.values(), now=NOW)

    refused = dict(zip(BAD, errors(answers[1:]), strict=True))
    assert "done" in answers[0]
    assert set(refused.values()) == {"InvalidToken", "UnknownKey"}
    assert all(name.startswith("kid") for name in refused if refused[name] == "UnknownKey")
    assert {answer["status"] for answer in answers[1:]} == {401}
    assert broker.requests <= 2


async def test_token_is_accepted_once(driver: Driver, broker: KeyServer) -> None:
    token, other = SIGNER.token(), SIGNER.token(jti="token-2")

    answers = await driver.send(do="spend", tokens=[token, token, other, SIGNER.token()], now=NOW)

    assert errors(answers) == [None, "SpentToken", None, "SpentToken"]


async def test_spent_token_is_refused_until_expiry(driver: Driver, broker: KeyServer) -> None:
    """Also within the largest leeway."""
    options = {"issuer": ISSUER, "audience": AUDIENCE, "keys_url": broker.url}
    await driver.make_verifier(**options, leeway=120)
    await driver.send(do="spend", tokens=[SIGNER.token()], now=NOW)

    answers = [
        (await driver.send(do="spend", tokens=[SIGNER.token()], now=NOW + later))[0]
        for later in (600, 719, 720)
    ]

    assert errors(answers) == ["SpentToken", "SpentToken", "InvalidToken"]


async def test_keys_are_fetched_every_300_seconds(driver: Driver, broker: KeyServer) -> None:
    counts = []
    for later in (0, 1, 299, 300, 599, 600):
        await driver.verify(SIGNER.token(exp=NOW + DAY), now=NOW + later)
        counts.append(broker.requests)

    assert counts == [1, 1, 1, 2, 2, 3]


async def test_concurrent_tokens_fetch_keys_once(driver: Driver, broker: KeyServer) -> None:
    answers = await driver.verify(*[SIGNER.token()] * 8, now=NOW)

    assert errors(answers) == [None] * 8
    assert broker.requests == 1


async def test_new_key_is_fetched_at_once(driver: Driver, broker: KeyServer) -> None:
    await driver.verify(SIGNER.token(), now=NOW)
    new = Signer("second")
    broker.keys.append(new.public)

    answers = await driver.verify(*[new.token()] * 4, SIGNER.token(), now=NOW + 1)

    assert errors(answers) == [None] * 5
    assert broker.requests == 2


async def test_removed_key_is_refused_after_the_fetch(driver: Driver, broker: KeyServer) -> None:
    await driver.verify(SIGNER.token(), now=NOW)
    broker.keys = [Signer("second").public]

    [before] = await driver.verify(SIGNER.token(), now=NOW + 299)
    [after] = await driver.verify(SIGNER.token(), now=NOW + 300)

    assert errors([before, after]) == [None, "UnknownKey"]


async def test_unknown_kid_fetches_keys_every_30_seconds(driver: Driver, broker: KeyServer) -> None:
    await driver.verify(SIGNER.token(), now=NOW)
    counts = []
    for later in (1, 2, 30, 31, 60, 61):
        forged = [Signer(f"kid {n}").token() for n in range(3)]
        assert errors(await driver.verify(*forged, now=NOW + later)) == ["UnknownKey"] * 3
        counts.append(broker.requests - 1)

    assert counts == [1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("answer", [None, b"<html>", b'{"keys": 1}', b"[]", b'{"keys": []}'])
async def test_keys_are_used_for_a_day_without_broker(
    driver: Driver, broker: KeyServer, answer: bytes | None
) -> None:
    await driver.verify(SIGNER.token(), now=NOW)
    broker.is_down, broker.body = answer is None, answer

    answers = [
        (await driver.verify(SIGNER.token(iat=NOW + later, exp=NOW + later + 60), now=NOW + later))
        for later in (400, DAY - 1, DAY)
    ]

    assert errors([one for [one] in answers]) == [None, None, "BrokerUnavailable"]
    assert answers[2][0]["status"] == 503


async def test_failed_fetch_is_repeated_after_a_second(driver: Driver, broker: KeyServer) -> None:
    broker.is_down = True
    counts = []
    for later in (0, 0.5, 0.9, 1, 1.5, 2):
        answers = await driver.verify(*[SIGNER.token()] * 3, now=NOW + later)
        assert errors(answers) == ["BrokerUnavailable"] * 3
        counts.append(broker.requests)

    assert counts == [1, 1, 1, 2, 2, 3]


async def test_verifier_recovers_with_the_broker(driver: Driver, broker: KeyServer) -> None:
    broker.is_down = True
    await driver.verify(SIGNER.token(), now=NOW)
    broker.is_down = False

    [answer] = await driver.verify(SIGNER.token(), now=NOW + 1)

    assert "done" in answer


async def test_malformed_token_fetches_no_keys_again(driver: Driver, broker: KeyServer) -> None:
    bad = [token for name, token in BAD.items() if not name.startswith("kid")]

    for later in range(3):
        await driver.verify(*bad, now=NOW + later)

    assert broker.requests == 1

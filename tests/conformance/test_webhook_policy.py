"""Tests of the policy at a site: requests, verdicts, failures and targets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.infrastructure.outbound.circuit_breaker import FAILURE_THRESHOLD
from broker.login.model import Decision
from broker.policies.countries import open_countries
from broker.policies.webhook import WebhookPolicy
from tests.support.policy import CASE, case_of, write_countries
from tests.support.waiting import eventually
from tests.support.webhook import OTHER_SECRET, Answer, Names, Served, serving_site

CHALLENGE = (Decision.CHALLENGE, "no_answer")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_site(tmp_path) as server:
        server.site.answer = says('{"verdict": "allow"}')
        yield server


@pytest.fixture
async def policy(server: Served) -> AsyncIterator[WebhookPolicy]:
    async with server.policy() as policy:
        yield policy


def says(content: str, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=content, content_type="application/json")

    return answer


def answer_count(outcome: str) -> float:
    return REGISTRY.get_sample_value("scanlogin_policy_answers_total", {"outcome": outcome}) or 0


async def test_request_describes_browser_phone_and_identity(server: Served, tmp_path: Path) -> None:
    file = write_countries(tmp_path / "countries.mmdb", AU="1.0.0.0/8")
    async with server.policy(countries=open_countries(str(file))) as policy:
        await policy.judge(CASE)

    [(headers, fields)] = server.site.questions
    assert fields["type"] == "login.judge"
    assert fields["data"] == {
        "app": "shop",
        "login_id": "login-1",
        "browser": {
            "ip": "1.1.1.1",
            "country": "AU",
            "user_agent": "Firefox",
            "since": 1_000_000,
            "known": False,
        },
        "phone": {"ip": "8.8.8.8", "how": 1047},
        "identity": {
            "provider": "wechat",
            "provider_app_id": "wx0123456789abcdef",
            "openid": "canary-openid",
            "unionid": None,
        },
    }
    assert headers["webhook-id"].startswith("msg_")


async def test_unknown_scene_is_left_out(server: Served, policy: WebhookPolicy) -> None:
    await policy.judge(case_of(how=None))

    [(_, fields)] = server.site.questions
    assert fields["data"]["phone"] == {"ip": "8.8.8.8"}


@pytest.mark.parametrize("decision", list(Decision))
async def test_verdict_of_the_site_is_returned(
    server: Served, policy: WebhookPolicy, decision: Decision
) -> None:
    before = answer_count(decision)
    server.site.answer = says(f'{{"verdict": "{decision}", "reason": "rule 7"}}')

    assert await policy.judge(CASE) == (decision, "rule 7")
    assert answer_count(decision) == before + 1


@pytest.mark.parametrize("reason", ["7", "null", '["x"]', r'"a\nb"'])
async def test_malformed_reason_is_dropped(
    server: Served, policy: WebhookPolicy, reason: str
) -> None:
    server.site.answer = says(f'{{"verdict": "deny", "reason": {reason}}}')

    assert await policy.judge(CASE) == (Decision.DENY, "")


@pytest.mark.parametrize(
    "answer",
    [
        says("{}"),
        says('{"verdict": "ALLOW"}'),
        says('{"verdict": ["allow"]}'),
        says("allow"),
        says("[" * 5000),
        says('{"verdict": "deny"}', status=403),
        says('{"verdict": "allow"}', status=302),
        says(" " * 20_000 + '{"verdict": "allow"}'),
    ],
)
async def test_invalid_answer_is_a_challenge(
    server: Served, policy: WebhookPolicy, answer: Answer
) -> None:
    server.site.answer = answer

    assert await policy.judge(CASE) == CHALLENGE


async def test_wrong_secret_is_a_challenge(server: Served) -> None:
    async with server.policy(signing_secrets=[OTHER_SECRET]) as policy:
        assert await policy.judge(CASE) == CHALLENGE


async def test_slow_site_is_a_challenge(server: Served, policy: WebhookPolicy) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    server.site.answer = slow

    assert await policy.judge(CASE) == CHALLENGE


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
async def test_private_address_gets_no_request(server: Served, address: str) -> None:
    names = Names(site=address)
    async with server.policy(allow_private_address=False, resolver=names) as policy:
        with capture_logs() as logs:
            assert await policy.judge(CASE) == CHALLENGE

    assert server.site.questions == []
    assert logs[0]["event"] == "policy unavailable"
    assert "is not a public address" in logs[0]["reason"]


async def test_redirect_is_not_followed(server: Served, policy: WebhookPolicy) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": str(request.url)})

    server.site.answer = redirect

    assert await policy.judge(CASE) == CHALLENGE
    assert len(server.site.questions) == 1


async def test_circuit_breaker_stops_requests(server: Served, policy: WebhookPolicy) -> None:
    server.site.answer = says("{}")
    for n in range(FAILURE_THRESHOLD + 3):
        identity = CASE.identity.__class__("wechat", f"person-{n}")
        assert await policy.judge(CASE._replace(identity=identity)) == CHALLENGE

    assert len(server.site.questions) == FAILURE_THRESHOLD


async def test_person_has_one_request_in_flight(server: Served, policy: WebhookPolicy) -> None:
    release = asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.json_response({"verdict": "allow"})

    server.site.answer = held
    judging = [asyncio.create_task(policy.judge(CASE)) for _ in range(3)]
    await eventually(lambda: server.site.questions)
    in_flight = len(server.site.questions)
    release.set()

    assert in_flight == 1
    assert {verdict.decision for verdict in await asyncio.gather(*judging)} == {Decision.ALLOW}


async def test_log_of_failures_has_no_identity(server: Served, policy: WebhookPolicy) -> None:
    server.site.answer = says("{}")
    with capture_logs() as logs:
        await policy.judge(CASE)

    assert logs
    assert "canary" not in str(logs)

"""The modules of OpenID's certification plans for RP-initiated and back-channel logout.

Each test is named after its module of `oidcc-rp-initiated-logout-certification-test-plan` or
`oidcc-backchannel-rp-initiated-logout-certification-test-plan`. The provider may ask whether to
sign out, and must not redirect to an address that it cannot attribute to the client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from tests.support.http_site import serving
from tests.support.openid_agent import (
    SIGNED_OUT,
    Answer,
    MakeParty,
    Page,
    RelyingParty,
    Return,
    Tokens,
    is_error,
)
from tests.support.waiting import eventually

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture
def mode() -> str | None:
    """The response mode makes no difference here."""
    return None


async def sign_out(party: RelyingParty, **fields: str) -> Answer:
    """Send the browser to the provider, and confirm if it asks."""
    url = URL(party.metadata["end_session_endpoint"]).with_query(fields)
    answer = await party.agent.open(url)
    if isinstance(answer, Page) and answer.status == 200 and "<form" in answer.text:
        answer = await party.provider.sign_out(party.agent, answer)
    return answer


async def is_signed_in(party: RelyingParty) -> bool:
    answer = await party.authorize(party.request(prompt="none"))
    assert isinstance(answer, Return), answer
    return "code" in answer.fields


# ---- RP-initiated logout ----


async def test_discovery_endpoint_verification(party: RelyingParty) -> None:
    url = party.metadata["end_session_endpoint"]

    assert url.startswith(f"{party.provider.issuer}/")
    assert URL(url).query_string == ""


async def test_rp_initiated_logout(party: RelyingParty) -> None:
    tokens = await party.sign_in()
    assert await is_signed_in(party)

    answer = await sign_out(
        party, id_token_hint=tokens.id_token, post_logout_redirect_uri=SIGNED_OUT, state="s 1+&="
    )

    assert answer == Return("GET", URL(SIGNED_OUT), {"state": "s 1+&="})
    assert not await is_signed_in(party)


async def test_no_state(party: RelyingParty) -> None:
    tokens = await party.sign_in()

    answer = await sign_out(
        party, id_token_hint=tokens.id_token, post_logout_redirect_uri=SIGNED_OUT
    )

    assert answer == Return("GET", URL(SIGNED_OUT), {})
    assert not await is_signed_in(party)


@pytest.mark.parametrize("query", [{}, {"state": "s"}], ids=["no_params", "only_state"])
async def test_logout_without_hint_shows_a_page(party: RelyingParty, query: dict[str, str]) -> None:
    await party.sign_in()

    answer = await sign_out(party, **query)

    assert isinstance(answer, Page)
    assert answer.status == 200
    assert not await is_signed_in(party)


async def test_copied_cookie_is_useless_after_logout(party: RelyingParty, tmp_path: Path) -> None:
    """The provider ends its session, and does not only delete the cookie."""
    await party.sign_in()
    party.agent.cookies.save(tmp_path / "cookies")
    await sign_out(party)

    party.agent.cookies.load(tmp_path / "cookies")

    assert not await is_signed_in(party)


async def test_no_post_logout_redirect_uri(party: RelyingParty) -> None:
    tokens = await party.sign_in()

    answer = await sign_out(party, id_token_hint=tokens.id_token, state="s")

    assert isinstance(answer, Page)
    assert not await is_signed_in(party)


async def test_no_id_token_hint(party: RelyingParty) -> None:
    await party.sign_in()

    answer = await sign_out(party, post_logout_redirect_uri=SIGNED_OUT, state="s")

    assert isinstance(answer, Page), answer


@pytest.mark.parametrize(
    "uri",
    [
        f"{SIGNED_OUT}/other",
        f"{SIGNED_OUT}?foo=bar",
        "https://evil.example/",
        "javascript:alert(1)",
    ],
    ids=["bad", "query_added", "foreign", "script"],
)
async def test_bad_post_logout_redirect_uri(party: RelyingParty, uri: str) -> None:
    tokens = await party.sign_in()

    answer = await sign_out(
        party, id_token_hint=tokens.id_token, post_logout_redirect_uri=uri, state="s"
    )

    assert isinstance(answer, Page), answer


def changed_signature(tokens: Tokens) -> str:
    head, payload, signature = tokens.id_token.split(".")
    return ".".join((head, payload, signature[:9] + ("A" if signature[9] != "A" else "B")))


def changed_subject(tokens: Tokens) -> str:
    head, payload, signature = tokens.id_token.split(".")
    return ".".join((head, payload[:-4] + payload[-3:] + "A", signature))


@pytest.mark.parametrize(
    "change",
    [changed_signature, changed_subject, lambda _: "bad"],
    ids=["modified_signature", "modified_payload", "bad"],
)
async def test_modified_id_token_hint(party: RelyingParty, change: object) -> None:
    assert callable(change)
    tokens = await party.sign_in()

    answer = await sign_out(
        party, id_token_hint=change(tokens), post_logout_redirect_uri=SIGNED_OUT, state="s"
    )

    assert isinstance(answer, Page), answer


async def test_logout_by_post(party: RelyingParty) -> None:
    """RP-Initiated Logout, section 2: providers support GET and POST."""
    tokens = await party.sign_in()
    fields = {"id_token_hint": tokens.id_token, "post_logout_redirect_uri": SIGNED_OUT}

    answer = await party.agent.open(party.metadata["end_session_endpoint"], fields)
    if isinstance(answer, Page):
        answer = await party.provider.sign_out(party.agent, answer)

    assert answer == Return("GET", URL(SIGNED_OUT), {})


# ---- back-channel logout ----


class Receiver:
    """The address of a relying party that receives logout tokens."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-www-form-urlencoded"
        self.tokens.append(str((await request.post())["logout_token"]))
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/logout", receiver.receive)
    async with serving(app) as port:
        receiver.url = f"http://127.0.0.1:{port}/logout"
        yield receiver


async def test_backchannel_discovery_endpoint_verification(party: RelyingParty) -> None:
    assert party.metadata["backchannel_logout_supported"] is True
    assert party.metadata["backchannel_logout_session_supported"] is True


async def test_backchannel_rp_initiated_logout(make_party: MakeParty, receiver: Receiver) -> None:
    party = await make_party(
        backchannel_logout_uri=receiver.url, backchannel_logout_session_required=True
    )
    tokens = await party.sign_in()

    answer = await sign_out(
        party, id_token_hint=tokens.id_token, post_logout_redirect_uri=SIGNED_OUT, state="s"
    )

    assert answer == Return("GET", URL(SIGNED_OUT), {"state": "s"})
    await eventually(lambda: receiver.tokens)
    [text] = receiver.tokens
    claims = await party.verified(text, typ="logout+jwt")
    assert claims["events"] == {EVENT: {}}
    assert claims["sid"] == tokens.claims["sid"]
    assert claims.get("sub", tokens.claims["sub"]) == tokens.claims["sub"]
    assert claims["jti"]
    assert "nonce" not in claims


async def test_silent_sign_in_fails_after_logout(party: RelyingParty) -> None:
    tokens = await party.sign_in()
    await sign_out(party, id_token_hint=tokens.id_token, post_logout_redirect_uri=SIGNED_OUT)

    answer = await party.authorize(party.request(prompt="none", id_token_hint=tokens.id_token))

    assert is_error(answer, "login_required")

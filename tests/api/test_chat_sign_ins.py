"""Chat of people whose token has a grant: it ends with the grant and with the sign-in session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from yarl import URL

from tests.support.builders import StartBroker
from tests.support.chat import ChatClient, refusal
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.logins import secret_of
from tests.support.oidc_app import SETTINGS, ProfileDirectory, RelyingParty, relying_party
from tests.support.oidc_browser import ScanBrowser


@pytest.fixture
def directory() -> ProfileDirectory:
    return ProfileDirectory()


@pytest.fixture
async def app(
    start_broker: StartBroker, directory: ProfileDirectory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RelyingParty]:
    monkeypatch.setattr("broker.chat.watch.WATCH_INTERVAL", 0.1)
    broker = await start_broker(directory, **SETTINGS)
    async with relying_party(broker, rooms="open") as app:
        yield app


@pytest.fixture
async def token(app: RelyingParty) -> str:
    return str((await app.tokens())["access_token"])


@pytest.fixture
async def alice(app: RelyingParty, token: str) -> AsyncIterator[ChatClient]:
    client = await ChatClient().connect(app.url, {"token": token})
    await client.join()
    yield client
    await client.close()


async def revoke(app: RelyingParty, token: str) -> None:
    assert (await app.post("revoke", token=token)).status == 200


async def sign_out(app: RelyingParty, token: str) -> None:
    async with PhoneClient(app.url, app=app.id) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}


End = Callable[[RelyingParty, str], Awaitable[None]]


@pytest.mark.parametrize("end", [revoke, sign_out])
async def test_ended_login_closes_its_chat(
    app: RelyingParty, token: str, alice: ChatClient, end: End
) -> None:
    await end(app, token)

    assert await alice.push("chat-closed") == {"room": "lounge", "reason": "session_ended"}
    await alice.push("disconnect")
    assert await refusal(app.url, {"token": token}) == "invalid_token"
    assert await refusal(app.url, {"resume": alice.ready["resume"]}) == "invalid_grant"


async def test_report_closes_chat_of_a_sign_in(app: RelyingParty) -> None:
    async with ScanBrowser(app.url) as browser:
        page = await browser.open(app.request_url())
        fields = await browser.confirmed(page, "alice", phone_app=app.id)
        answer = await browser.submit_login(page, fields, follow=False)
    exchanged = await app.exchange(URL(answer.headers["Location"]).query["code"])

    await report_ends_chat(app, fields["login_id"], exchanged.body["access_token"])


async def test_report_closes_chat_of_a_login(app: RelyingParty) -> None:
    async with PhoneClient(app.url, app=app.id) as phone:
        browser = PythonBrowser(["websocket"])
        await browser.connect(app.url, {"app": app.id})
        begun = await browser.emit("begin", {})
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", {"login_id": begun["login_id"]})
        token = await browser.emit("redeem", secret_of(begun))
        await browser.close()

    await report_ends_chat(app, begun["login_id"], token["access_token"])


async def report_ends_chat(app: RelyingParty, login_id: str, token: str) -> None:
    client = await ChatClient().connect(app.url, {"token": token})
    await client.join()

    async with PhoneClient(app.url, app=app.id) as phone:
        assert (await phone.post("report", {"login_id": login_id})).status == 200

    assert (await client.push("chat-closed"))["reason"] == "session_ended"
    await client.push("disconnect")
    assert await refusal(app.url, {"token": token}) == "invalid_token"
    assert await refusal(app.url, {"resume": client.ready["resume"]}) == "invalid_grant"
    await client.close()


async def test_token_of_a_removed_user_is_refused(
    app: RelyingParty, token: str, directory: ProfileDirectory
) -> None:
    directory.remove_user()

    assert await refusal(app.url, {"token": token}) == "invalid_token"

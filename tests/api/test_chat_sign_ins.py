"""Chat of people whose token has a grant: it ends with the grant and with the sign-in session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.builders import StartBroker
from tests.support.chat import ChatClient, refusal
from tests.support.clients import PhoneClient
from tests.support.oidc_app import SETTINGS, ProfileDirectory, RelyingParty, relying_party


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


async def test_token_of_a_removed_user_is_refused(
    app: RelyingParty, token: str, directory: ProfileDirectory
) -> None:
    directory.remove_user()

    assert await refusal(app.url, {"token": token}) == "invalid_token"

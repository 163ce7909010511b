"""Names in rooms: from the directory, if the phone has shown the scope `profile`."""

from __future__ import annotations

import pytest

from tests.support.app_admin import RED, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.chat import ChatClient, chatting
from tests.support.logins import token_of
from tests.support.oidc_app import SETTINGS, ProfileDirectory, claims_of, relying_party


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(ProfileDirectory(), chat_rooms="open", **SETTINGS)


async def name_in_room(broker: RunningBroker, token: str) -> str | None:
    """Return the author's name of a message of a person with this token."""
    client = await ChatClient().connect(broker.url, {"token": token, "nickname": "Al"})
    [member] = (await client.join())["members"]
    await client.say("hello")
    author = (await client.push("chat-message"))["from"]
    await client.close()
    assert author == {"subject": "u-alice", "name": author["name"], "nickname": "Al"}
    assert client.ready["name"] == member["name"] == author["name"]
    name: str | None = author["name"]
    return name


async def test_person_of_a_page_login_has_a_name(broker: RunningBroker) -> None:
    assert await name_in_room(broker, await token_of(broker)) == "Alice"


async def test_name_stays_hidden_without_scope_profile(broker: RunningBroker) -> None:
    async with Admin(broker.admin).http as http:
        await http.post("/apps", json=RED | {"rooms": "open", "scopes": ["openid"]})

    assert await name_in_room(broker, await token_of(broker, app="red")) is None


@pytest.mark.parametrize(("scope", "name"), [("openid profile", "Alice"), ("openid", None)])
async def test_granted_profile_puts_the_name_in_tokens(
    broker: RunningBroker, scope: str, name: str | None
) -> None:
    async with relying_party(broker, rooms="open") as app:
        tokens = await app.tokens(scope=scope)

        assert claims_of(tokens["access_token"]).get("name") == name
        assert await name_in_room(broker, tokens["access_token"]) == name


async def test_person_with_a_session_has_a_name(broker: RunningBroker) -> None:
    async with chatting(broker.url) as alice:
        assert alice.ready["name"] == "Alice"

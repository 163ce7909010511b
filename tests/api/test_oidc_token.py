"""Tests of the token endpoint: codes, refresh tokens, ID tokens, and the end of families."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import Unavailable
from broker.identity.errors import UserBlocked
from tests.support.builders import Clock, StartBroker
from tests.support.oidc_app import (
    ALL_SCOPES,
    CALLBACK,
    SETTINGS,
    ProfileDirectory,
    RelyingParty,
    claims_of,
    new_challenge,
    relying_party,
)
from tests.support.waiting import eventually

CHANGING = {"iat", "exp", "at_hash", "jti", "nonce"}
"""Claims in which a refreshed ID token may differ."""


@pytest.fixture
def directory() -> ProfileDirectory:
    return ProfileDirectory()


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
async def app(
    start_broker: StartBroker, directory: ProfileDirectory, clock: Clock
) -> AsyncIterator[RelyingParty]:
    broker = await start_broker(directory, clock, **SETTINGS)
    async with relying_party(broker) as app:
        yield app


async def test_code_yields_the_documented_tokens(app: RelyingParty) -> None:
    tokens = await app.tokens(nonce="n-1")

    access, identity = claims_of(tokens["access_token"]), claims_of(tokens["id_token"])
    assert tokens["token_type"] == "Bearer"
    assert tokens["scope"] == ALL_SCOPES
    assert access["aud"] == ["shop", app.url]
    assert access["scope"] == ALL_SCOPES
    assert (identity["iss"], identity["aud"], identity["azp"]) == (app.url, "shop", "shop")
    assert (identity["nonce"], identity["amr"]) == ("n-1", ["scan"])
    assert identity["acr"] == "urn:scan-login:scan"
    assert identity["exp"] == access["exp"]
    assert identity["sub"] == access["sub"] == "u-alice"


async def test_id_token_and_userinfo_carry_the_same_claims(app: RelyingParty) -> None:
    tokens = await app.tokens()

    identity = claims_of(tokens["id_token"])
    userinfo = (await app.userinfo(tokens["access_token"])).body
    assert userinfo.items() <= identity.items()
    assert userinfo["groups"] == ["admins", "staff"]
    assert userinfo["email_verified"] is True
    assert len(userinfo) == 12


async def test_lean_id_token_leaves_claims_to_userinfo(app: RelyingParty) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"id_token_claims": "lean"})

    tokens = await app.tokens()

    assert "name" not in claims_of(tokens["id_token"])
    assert (await app.userinfo(tokens["access_token"])).body["name"] == "Alice"


async def test_claims_parameter_adds_a_single_claim(app: RelyingParty) -> None:
    tokens = await app.tokens(scope="openid", claims='{"id_token": {"name": null}}')

    identity = claims_of(tokens["id_token"])
    assert identity["name"] == "Alice"
    assert "nickname" not in identity


async def test_request_without_openid_yields_no_id_token(app: RelyingParty) -> None:
    tokens = await app.tokens(scope="profile")

    assert "id_token" not in tokens
    assert claims_of(tokens["access_token"])["aud"] == "shop"
    answer = await app.userinfo(tokens["access_token"])
    assert (answer.status, answer.error) == (403, "insufficient_scope")


async def test_sid_is_equal_in_both_tokens(app: RelyingParty) -> None:
    tokens = await app.tokens(scope="openid")

    sid = claims_of(tokens["id_token"])["sid"]
    assert len(sid) == 22
    assert claims_of(tokens["access_token"])["sid"] == sid


async def test_code_replay_ends_the_family(app: RelyingParty) -> None:
    code = await app.code()
    tokens = (await app.exchange(code)).body

    replayed = await app.exchange(code)

    assert (replayed.status, replayed.error) == (400, "invalid_grant")
    assert (await app.refresh(tokens["refresh_token"])).error == "invalid_grant"
    assert (await app.userinfo(tokens["access_token"])).status == 401


async def test_raced_code_works_once(app: RelyingParty) -> None:
    code = await app.code()

    answers = await asyncio.gather(*(app.exchange(code) for _ in range(20)))

    assert sorted(answer.status for answer in answers) == [200] + [400] * 19


async def test_code_expires_after_a_minute(app: RelyingParty, clock: Clock) -> None:
    code = await app.code()
    clock.time += 61

    assert (await app.exchange(code)).error == "invalid_grant"


async def test_code_needs_its_redirect_uri(app: RelyingParty) -> None:
    answer = await app.exchange(await app.code(), redirect_uri=f"{CALLBACK}/other")

    assert (answer.status, answer.error) == (400, "invalid_grant")


@pytest.mark.parametrize("form", [{}, {"code": "x"}, {"redirect_uri": CALLBACK}], ids=str)
async def test_missing_field_is_an_invalid_request(app: RelyingParty, form: dict[str, str]) -> None:
    answer = await app.post("token", grant_type="authorization_code", **form)

    assert (answer.status, answer.error) == (400, "invalid_request")


async def test_challenge_needs_its_verifier(app: RelyingParty) -> None:
    challenge = new_challenge()
    codes = [await app.code(**challenge.fields) for _ in range(3)]

    missing = await app.exchange(codes[0])
    wrong = await app.exchange(codes[1], code_verifier=new_challenge().verifier)
    right = await app.exchange(codes[2], code_verifier=challenge.verifier)

    assert [missing.error, wrong.error, right.error] == ["invalid_grant", "invalid_grant", ""]


async def test_code_with_a_wrong_verifier_is_used(app: RelyingParty) -> None:
    challenge = new_challenge()
    code = await app.code(**challenge.fields)

    await app.exchange(code, code_verifier=new_challenge().verifier)

    right = await app.exchange(code, code_verifier=challenge.verifier)
    assert (right.status, right.error) == (400, "invalid_grant")


async def test_verifier_without_challenge_is_refused(app: RelyingParty) -> None:
    answer = await app.exchange(await app.code(), code_verifier=new_challenge().verifier)

    assert answer.error == "invalid_grant"


async def test_refresh_returns_a_new_refresh_token(app: RelyingParty) -> None:
    first = await app.tokens()

    second = (await app.refresh(first["refresh_token"])).body
    third = (await app.refresh(second["refresh_token"])).body

    tokens = [one["refresh_token"] for one in (first, second, third)]
    assert len({*tokens}) == 3
    assert (await app.userinfo(third["access_token"])).status == 200


async def test_refreshed_id_token_equals_the_first(app: RelyingParty, clock: Clock) -> None:
    first = await app.tokens(nonce="n-1")
    clock.time += 30

    second = (await app.refresh(first["refresh_token"])).body

    before, after = claims_of(first["id_token"]), claims_of(second["id_token"])
    assert {name: before[name] for name in before.keys() - CHANGING} == {
        name: after[name] for name in after.keys() - CHANGING
    }


async def test_parallel_refreshes_give_one_successor(app: RelyingParty) -> None:
    first = await app.tokens()

    answers = await asyncio.gather(*(app.refresh(first["refresh_token"]) for _ in range(20)))

    successors = {answer.body.get("refresh_token") for answer in answers}
    assert {answer.status for answer in answers} == {200}
    assert len(successors) == 1
    assert (await app.refresh(successors.pop() or "")).status == 200


async def test_refresh_reuse_is_in_the_audit_log(
    app: RelyingParty, clock: Clock, records_file: Path
) -> None:
    first = await app.tokens()
    await app.refresh(first["refresh_token"])
    clock.time += 11
    await app.refresh(first["refresh_token"])

    def reused_at() -> float | None:
        with closing(sqlite3.connect(records_file)) as database:
            rows = database.execute(
                "SELECT reused_at FROM ended_logins WHERE kind IS NULL"
            ).fetchall()
        return rows[0][0] if rows else None

    await eventually(reused_at)
    assert reused_at() == clock()


async def test_previous_refresh_token_works_in_grace(app: RelyingParty, clock: Clock) -> None:
    first = await app.tokens()
    second = (await app.refresh(first["refresh_token"])).body
    clock.time += 9

    repeated = (await app.refresh(first["refresh_token"])).body

    assert repeated["refresh_token"] == second["refresh_token"]


async def test_refresh_reuse_after_grace_ends_family(app: RelyingParty, clock: Clock) -> None:
    first = await app.tokens()
    second = (await app.refresh(first["refresh_token"])).body
    clock.time += 11

    reused = await app.refresh(first["refresh_token"])

    assert (reused.status, reused.error) == (400, "invalid_grant")
    assert (await app.refresh(second["refresh_token"])).error == "invalid_grant"
    assert await app.introspect(second["access_token"]) == {"active": False}


async def test_older_refresh_token_ends_family_in_grace(app: RelyingParty) -> None:
    first = await app.tokens()
    second = (await app.refresh(first["refresh_token"])).body
    third = (await app.refresh(second["refresh_token"])).body

    await app.refresh(first["refresh_token"])

    assert (await app.refresh(third["refresh_token"])).error == "invalid_grant"


@pytest.mark.parametrize(("reuse", "status"), [("family", 200), ("signin", 401)])
async def test_reuse_ends_the_session_if_set(
    app: RelyingParty, clock: Clock, reuse: str, status: int
) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"reuse": reuse, "sso": True})
    stolen, other = [(await app.exchange(code)).body for code in await app.two_codes()]
    await app.refresh(stolen["refresh_token"])
    clock.time += 11

    await app.refresh(stolen["refresh_token"])

    assert (await app.userinfo(other["access_token"])).status == status


async def test_narrower_scope_is_granted_and_wider_refused(app: RelyingParty) -> None:
    tokens = await app.tokens(scope="openid profile offline_access")

    narrow = await app.refresh(tokens["refresh_token"], scope="openid")
    wide = await app.refresh(narrow.body["refresh_token"], scope="openid email")
    same = await app.refresh(narrow.body["refresh_token"])

    assert narrow.body["scope"] == "openid"
    assert "name" not in claims_of(narrow.body["id_token"])
    assert (wide.status, wide.error) == (400, "invalid_scope")
    assert same.body["scope"] == "openid profile offline_access"


async def test_refresh_tokens_follow_the_app_field(app: RelyingParty) -> None:
    without_offline = await app.tokens(scope="openid")
    await app.admin.ask("PATCH", "/apps/shop", {"refresh": "always"})
    always = await app.tokens(scope="openid")
    await app.admin.ask("PATCH", "/apps/shop", {"refresh": "never"})
    never = await app.tokens()

    assert "refresh_token" not in without_offline
    assert "refresh_token" in always
    assert "refresh_token" not in never


async def test_refused_user_ends_the_family(app: RelyingParty, directory: ProfileDirectory) -> None:
    tokens = await app.tokens()
    directory.refusal = UserBlocked()

    refused = await app.refresh(tokens["refresh_token"])
    directory.refusal = None

    assert (refused.status, refused.error) == (400, "invalid_grant")
    assert (await app.refresh(tokens["refresh_token"])).error == "invalid_grant"


async def test_directory_outage_leaves_the_refresh_token(
    app: RelyingParty, directory: ProfileDirectory
) -> None:
    tokens = await app.tokens()
    directory.refusal = Unavailable()

    during = await app.refresh(tokens["refresh_token"])
    directory.refusal = None

    assert (during.status, during.error) == (503, "temporarily_unavailable")
    assert (await app.refresh(tokens["refresh_token"])).status == 200


async def test_subject_stays_when_the_name_changes(
    app: RelyingParty, directory: ProfileDirectory
) -> None:
    tokens = await app.tokens()
    directory.profile = replace(directory.profile, name="Bob", nickname="B")

    refreshed = claims_of((await app.refresh(tokens["refresh_token"])).body["id_token"])

    assert refreshed["sub"] == "u-alice"
    assert refreshed["preferred_username"] == "alice"
    assert refreshed["name"] == "Bob"


async def test_other_subject_for_a_user_ends_family(
    app: RelyingParty, directory: ProfileDirectory
) -> None:
    tokens = await app.tokens()
    directory.profile = replace(directory.profile, subject="u-mallory")

    assert (await app.refresh(tokens["refresh_token"])).error == "invalid_grant"
    assert (await app.userinfo(tokens["access_token"])).status == 401


async def test_revocation_ends_one_family_only(app: RelyingParty) -> None:
    first, second = await app.tokens(), await app.tokens()

    revoked = await app.post("revoke", token=first["refresh_token"])

    assert revoked.status == 200
    assert await app.introspect(first["access_token"]) == {"active": False}
    assert (await app.introspect(second["access_token"]))["active"] is True
    assert (await app.refresh(second["refresh_token"])).status == 200


async def test_access_token_revocation_ends_its_family(app: RelyingParty) -> None:
    tokens = await app.tokens()

    await app.post("revoke", token=tokens["access_token"], token_type_hint="access_token")

    assert (await app.refresh(tokens["refresh_token"])).error == "invalid_grant"


async def test_unknown_token_revocation_succeeds(app: RelyingParty) -> None:
    answer = await app.post("revoke", token="unknown")

    assert (answer.status, answer.body) == (200, {})


async def test_introspection_has_the_documented_fields(app: RelyingParty) -> None:
    tokens = await app.tokens()

    access = await app.introspect(tokens["access_token"])
    refresh = await app.introspect(tokens["refresh_token"])

    claims = claims_of(tokens["access_token"])
    for name in ("iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "sid"):
        assert access[name] == claims[name]
    assert (access["username"], access["token_type"]) == ("alice", "Bearer")
    assert (refresh["active"], refresh["sub"], refresh["sid"]) == (True, "u-alice", claims["sid"])
    assert "token_type" not in refresh


async def test_removed_user_has_no_active_token(
    app: RelyingParty, directory: ProfileDirectory
) -> None:
    tokens = await app.tokens()
    directory.remove_user()

    assert await app.introspect(tokens["access_token"]) == {"active": False}
    assert (await app.userinfo(tokens["access_token"])).error == "invalid_token"


async def test_userinfo_accepts_the_token_in_a_form(app: RelyingParty) -> None:
    token = (await app.tokens())["access_token"]

    in_form = await app.request("POST", "userinfo", data={"access_token": token})
    in_header = await app.request("POST", "userinfo", headers={"Authorization": f"Bearer {token}"})
    in_query = await app.request("GET", f"userinfo?access_token={token}")

    assert in_form.body == in_header.body
    assert in_form.body["sub"] == "u-alice"
    assert (in_query.status, in_query.error) == (401, "invalid_token")
    assert in_query.headers["WWW-Authenticate"].startswith("Bearer")


async def test_family_without_offline_ends_with_its_session(
    app: RelyingParty, clock: Clock
) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"refresh": "always"})
    online, offline = await app.tokens(scope="openid"), await app.tokens()
    clock.time += 28_801

    assert (await app.refresh(online["refresh_token"])).error == "invalid_grant"
    assert (await app.refresh(offline["refresh_token"])).status == 200


async def test_refresh_is_a_use_of_the_session(app: RelyingParty, clock: Clock) -> None:
    await app.admin.ask("PATCH", "/apps/shop", {"refresh": "always"})
    tokens = await app.tokens(scope="openid")
    for _ in range(3):
        clock.time += 20_000
        tokens = (await app.refresh(tokens["refresh_token"])).body

    assert "refresh_token" in tokens


async def test_family_ends_after_idle_time(app: RelyingParty, clock: Clock) -> None:
    tokens = await app.tokens()
    clock.time += 1_209_601

    assert (await app.refresh(tokens["refresh_token"])).error == "invalid_grant"

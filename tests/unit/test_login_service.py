"""Tests of the login service, from begin to token, without a network."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from broker.apps.errors import UnknownApp
from broker.directories.open import OpenDirectory
from broker.errors import BrokerError, Unavailable
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.infrastructure.coordination import Bus, Notice
from broker.login.delivery import RedeemedLogin
from broker.login.errors import (
    AlreadyRedeemed,
    AlreadyScanned,
    LoginDenied,
    LoginExpired,
    NotAllowed,
    UnknownLogin,
    UnknownScene,
    WrongPhone,
)
from broker.login.metrics import REDELIVERIES, login_counter
from broker.login.model import REDELIVERY_LIFETIME, Login, State
from broker.login.ports import SwapResult
from broker.login.service import NewLogin
from broker.state import StateBackend
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
    SHOP,
    Clock,
    FixedDirectory,
    LoginMethods,
    RecordingAuditLog,
)


@pytest.fixture
def short_issuer(tmp_path: Path, clock: Clock) -> TokenIssuer:
    """An issuer whose tokens expire before the redelivery window ends."""
    return TokenIssuer(
        file=SigningKeyFile(tmp_path / "short.json"),
        algorithm="ES256",
        issuer="https://login.example",
        lifetime=10,
        host_clock=clock,
    )


async def begin(login_service: LoginMethods, *, has_socket: bool = True) -> NewLogin:
    return await login_service.begin("shop", FIREFOX, has_socket=has_socket)


async def confirmed(login_service: LoginMethods) -> NewLogin:
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.confirm(new_login.login.id, ALICE)
    return new_login


async def test_login_from_begin_to_token(login_service: LoginMethods) -> None:
    login, secret, *_ = await begin(login_service)

    scanned = await login_service.scan(login.scene, ALICE)
    await login_service.confirm(login.id, ALICE)
    redeemed = await login_service.redeem(login.id, secret, app="shop")

    assert scanned.app == SHOP
    assert scanned.login.browser == FIREFOX
    assert redeemed.login.subject == "pretend:alice"
    assert redeemed.token.access_token.count(".") == 2


async def test_identifiers_have_their_documented_lengths(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)

    assert len(new_login.login.id) == 22
    assert len(new_login.login.scene) == 32
    assert len(new_login.secret) == 43
    assert new_login.secret.encode() not in new_login.login.secret_hash


async def test_code_url_is_an_image_data_url(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)

    head, _, content = new_login.code_url.partition(",")
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(content).startswith(b"<svg")


async def test_identifiers_of_logins_are_unique(login_service: LoginMethods) -> None:
    new_logins = [await begin(login_service) for _ in range(100)]

    names = {name for one in new_logins for name in (one.login.id, one.login.scene, one.secret)}
    assert len(names) == 300


async def test_each_act_publishes_a_notice(login_service: LoginMethods, bus: Bus) -> None:
    async with bus.listen("one") as notices:
        new_login = await confirmed(login_service)
        other = await begin(login_service)
        await login_service.scan(other.login.scene, ALICE)
        await login_service.deny(other.login.id, ALICE)

        assert [await anext(notices) for _ in range(4)] == [
            Notice("login-scanned", new_login.login.id),
            Notice("login-confirmed", new_login.login.id),
            Notice("login-scanned", other.login.id),
            Notice("login-denied", other.login.id),
        ]


async def test_change_is_stored_before_its_notice(
    login_service: LoginMethods, bus: Bus, store: StateBackend
) -> None:
    async with bus.listen("one") as notices:
        new_login = await begin(login_service)
        scanning = asyncio.create_task(login_service.scan(new_login.login.scene, ALICE))
        await anext(notices)

        stored = await store.logins.get(new_login.login.id)
        assert stored is not None
        assert stored.state is State.SCANNED
        await scanning


async def test_act_succeeds_if_its_notice_cannot_be_published(
    make_login_service: Callable[..., LoginMethods],
    login_service: LoginMethods,
    monkeypatch: pytest.MonkeyPatch,
    bus: Bus,
) -> None:
    async def down(instance: str, notice: Notice) -> None:
        raise Unavailable

    new_login = await begin(login_service)
    monkeypatch.setattr(bus, "publish", down)

    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.confirm(new_login.login.id, ALICE)

    assert (await login_service.redeem(new_login.login.id, new_login.secret, app="shop")).token


async def test_login_without_socket_publishes_no_notice(
    login_service: LoginMethods, bus: Bus
) -> None:
    async with bus.listen("") as unnamed, bus.listen("one") as one:
        new_login = await begin(login_service, has_socket=False)
        await login_service.scan(new_login.login.scene, ALICE)

        for instance, notices in (("", unnamed), ("one", one)):
            await bus.publish(instance, Notice("next", "none before it"))
            assert await anext(notices) == Notice("next", "none before it")


async def test_expired_code_cannot_be_scanned(login_service: LoginMethods, clock: Clock) -> None:
    new_login = await begin(login_service)
    clock.time += 120

    with pytest.raises(LoginExpired):
        await login_service.scan(new_login.login.scene, ALICE)


@pytest.mark.parametrize("secret", ["wrong", ""])
async def test_wrong_secret_and_unknown_login_have_equal_responses(
    login_service: LoginMethods, secret: str
) -> None:
    new_login = await confirmed(login_service)

    answers = []
    for login_id in (new_login.login.id, "no-such-login"):
        for verb in (login_service.redeem, login_service.resume, login_service.cancel):
            with pytest.raises(UnknownLogin) as refusal:
                await verb(login_id, secret, app="shop")
            answers.append(refusal.value.body())

    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("secret", ["", "wrong"])
async def test_login_of_another_app_is_unknown_with_wrong_secret(
    login_service: LoginMethods, secret: str
) -> None:
    new_login = await confirmed(login_service)

    with pytest.raises(UnknownLogin):
        await login_service.redeem(new_login.login.id, secret, app="other")


async def test_login_of_another_app_is_unknown(login_service: LoginMethods) -> None:
    new_login = await confirmed(login_service)
    phone_of_other_app = ALICE._replace(app="other")

    for verb in (login_service.redeem, login_service.resume, login_service.cancel):
        with pytest.raises(UnknownLogin):
            await verb(new_login.login.id, new_login.secret, app="other")
    with pytest.raises(UnknownScene):
        await login_service.scan(new_login.login.scene, phone_of_other_app)
    with pytest.raises(UnknownLogin):
        await login_service.confirm(new_login.login.id, phone_of_other_app)


def claims_of(redeemed: RedeemedLogin) -> dict[str, Any]:
    """The token's claims, unverified."""
    token = redeemed.token.access_token
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_repeated_redeem_returns_the_same_token(
    login_service: LoginMethods, make_login_service: Callable[..., LoginMethods], clock: Clock
) -> None:
    new_login = await confirmed(login_service)
    first = await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    clock.time += REDELIVERY_LIFETIME - 1
    other = make_login_service(instance="two")
    again = await other.redeem(new_login.login.id, new_login.secret, app="shop")

    assert claims_of(again) == claims_of(first)
    assert claims_of(first)["jti"] == new_login.login.id
    assert (first.token.expires_in, again.token.expires_in) == (600, 600 - 59)


async def test_redeem_after_the_redelivery_window_is_refused(
    login_service: LoginMethods, clock: Clock
) -> None:
    new_login = await confirmed(login_service)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    clock.time += REDELIVERY_LIFETIME

    with pytest.raises(AlreadyRedeemed):
        await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def test_token_that_has_expired_is_not_issued_again(
    make_login_service: Callable[..., LoginMethods], short_issuer: TokenIssuer, clock: Clock
) -> None:
    login_service = make_login_service(issuer=short_issuer)
    new_login = await confirmed(login_service)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    clock.time += 10

    with pytest.raises(AlreadyRedeemed):
        await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def test_repeated_redeem_needs_the_secret(login_service: LoginMethods) -> None:
    new_login = await confirmed(login_service)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    for secret, app in [
        ("A" * 43, "shop"),
        (new_login.login.scene, "shop"),
        (new_login.secret, "other"),
    ]:
        with pytest.raises(UnknownLogin):
            await login_service.redeem(new_login.login.id, secret, app=app)


async def test_repeated_redeem_counts_as_one_login(
    login_service: LoginMethods, trail: RecordingAuditLog
) -> None:
    counted, issued_again = login_counter("shop", State.REDEEMED), REDELIVERIES
    before = counted.value, issued_again._value.get()
    new_login = await confirmed(login_service)

    for _ in range(3):
        await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    assert counted.value - before[0] == 1
    assert issued_again._value.get() - before[1] == 2
    assert [(name, state) for name, state, _ in trail.ends] == [
        (new_login.login.id, State.REDEEMED)
    ]


async def test_redeem_is_repeatable_after_a_signing_failure(
    login_service: LoginMethods, issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise OSError("no entropy")

    new_login = await confirmed(login_service)
    with monkeypatch.context() as patch:
        patch.setattr(issuer, "issue", broken)
        with pytest.raises(OSError, match="entropy"):
            await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    assert await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def test_repeated_act_publishes_one_notice(login_service: LoginMethods, bus: Bus) -> None:
    """Otherwise a phone that scanned could flood the browser with events."""
    new_login = await begin(login_service)
    async with bus.listen("one") as notices:
        for _ in range(3):
            await login_service.scan(new_login.login.scene, ALICE)
        await login_service.deny(new_login.login.id, ALICE)

        assert [(await anext(notices)).event for _ in range(2)] == ["login-scanned", "login-denied"]


async def test_repeated_confirm_does_not_call_the_directory(
    make_login_service: Callable[..., LoginMethods],
) -> None:
    directory = FixedDirectory("alice")
    login_service = make_login_service(directory=directory)
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.confirm(new_login.login.id, ALICE)
    directory.known.clear()

    assert (await login_service.confirm(new_login.login.id, ALICE)).subject == "user-alice"


async def test_simultaneous_redeems_return_one_token(
    login_service: LoginMethods, trail: RecordingAuditLog, clock: Clock
) -> None:
    new_login = await confirmed(login_service)

    async def redeem() -> RedeemedLogin:
        clock.time += 0.1
        return await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    first, *others = map(claims_of, await asyncio.gather(*(redeem() for _ in range(100))))

    assert all(claims == first for claims in others)
    assert len(trail.ends) == 1


async def test_one_of_two_simultaneous_scans_succeeds(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)

    async def scan(phone: object) -> bool:
        try:
            return bool(await login_service.scan(new_login.login.scene, phone))  # type: ignore[arg-type]
        except AlreadyScanned:
            return False

    assert sorted(await asyncio.gather(scan(ALICE), scan(BOB))) == [False, True]


async def test_phone_may_repeat_each_act(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)
    for _ in range(2):
        await login_service.scan(new_login.login.scene, ALICE)
    for _ in range(2):
        await login_service.confirm(new_login.login.id, ALICE)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    assert (await login_service.confirm(new_login.login.id, ALICE)).state is State.REDEEMED


class BlockingDirectory(OpenDirectory):
    """A directory in which every user is blocked."""

    async def find(self, identity: Identity) -> UserProfile:
        raise UserBlocked


async def test_blocked_user_ends_the_login(
    make_login_service: Callable[..., LoginMethods], bus: Bus, trail: RecordingAuditLog
) -> None:
    login_service = make_login_service(directory=BlockingDirectory())
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    async with bus.listen("one") as notices:
        with pytest.raises(UserBlocked):
            await login_service.confirm(new_login.login.id, ALICE)
        assert (await anext(notices)).event == "login-refused"

    assert [(name, state) for name, state, _ in trail.ends] == [(new_login.login.id, State.DENIED)]
    with pytest.raises(LoginDenied) as caught:
        await login_service.redeem(new_login.login.id, new_login.secret, app="shop")
    assert caught.value.details == {"refused": True}


async def test_repeated_confirm_of_a_blocked_user_is_denied_again(
    make_login_service: Callable[..., LoginMethods],
) -> None:
    login_service = make_login_service(directory=BlockingDirectory())
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)

    errors = []
    for _ in range(2):
        with pytest.raises(BrokerError) as refused:
            await login_service.confirm(new_login.login.id, ALICE)
        errors.append(refused.value.error)

    assert errors == ["access_denied", "access_denied"]


async def test_phone_that_did_not_scan_causes_no_lookup(
    make_login_service: Callable[..., LoginMethods],
) -> None:
    login_service = make_login_service(directory=BlockingDirectory())
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, BOB)

    with pytest.raises(WrongPhone):
        await login_service.confirm(new_login.login.id, ALICE)
    login = await login_service.get(new_login.login.id)
    assert login is not None
    assert login.state is State.SCANNED


async def test_unknown_user_may_register_and_confirm_again(
    make_login_service: Callable[..., LoginMethods], bus: Bus
) -> None:
    directory = FixedDirectory()
    login_service = make_login_service(directory=directory)
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)

    async with bus.listen("one") as notices:
        with pytest.raises(UnregisteredUser) as refusal:
            await login_service.confirm(new_login.login.id, ALICE)
        assert await anext(notices) == Notice("login-unregistered", new_login.login.id)
    assert refusal.value.body()["register_url"] == SHOP.register_url

    directory.known.add("alice")
    await login_service.confirm(new_login.login.id, ALICE)
    redeemed = await login_service.redeem(new_login.login.id, new_login.secret, app="shop")
    assert redeemed.login.subject == "user-alice"


async def test_unregistered_confirm_extends_the_login_once(
    make_login_service: Callable[..., LoginMethods], clock: Clock
) -> None:
    directory = FixedDirectory()
    login_service = make_login_service(directory=directory)
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)

    for _ in range(2):
        with pytest.raises(UnregisteredUser):
            await login_service.confirm(new_login.login.id, ALICE)
        clock.time += 299

    directory.known.add("alice")
    assert (await login_service.confirm(new_login.login.id, ALICE)).state is State.CONFIRMED


async def test_extended_login_expires_after_the_register_lifetime(
    make_login_service: Callable[..., LoginMethods], clock: Clock
) -> None:
    login_service = make_login_service(directory=FixedDirectory())
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    with pytest.raises(UnregisteredUser):
        await login_service.confirm(new_login.login.id, ALICE)
    clock.time += 599
    with pytest.raises(UnregisteredUser):
        await login_service.confirm(new_login.login.id, ALICE)

    clock.time += 1

    with pytest.raises(LoginExpired):
        await login_service.confirm(new_login.login.id, ALICE)


async def test_resume_during_unregistered_confirm_keeps_the_extension(
    make_login_service: Callable[..., LoginMethods], bus: Bus
) -> None:
    class SlowDirectory(FixedDirectory):
        async def find(self, identity: Identity) -> UserProfile:
            await two.resume(new_login.login.id, new_login.secret, app="shop")
            return await super().find(identity)

    one, two = make_login_service(directory=SlowDirectory()), make_login_service(instance="two")
    new_login = await begin(one)
    await one.scan(new_login.login.scene, ALICE)

    async with bus.listen("two") as notices:
        with pytest.raises(UnregisteredUser):
            await one.confirm(new_login.login.id, ALICE)
        assert await anext(notices) == Notice("login-unregistered", new_login.login.id)
    login = await one.get(new_login.login.id)
    assert login is not None
    assert (login.unregistered, login.expires_at) == (True, new_login.login.expires_at + 480)


async def test_second_phone_is_refused_before_the_directory_lookup(
    make_login_service: Callable[..., LoginMethods],
) -> None:
    login_service = make_login_service(directory=FixedDirectory())
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)

    with pytest.raises(WrongPhone):
        await login_service.confirm(new_login.login.id, BOB)


async def test_browser_may_resume_on_another_instance(
    make_login_service: Callable[..., LoginMethods], bus: Bus
) -> None:
    one, two = make_login_service(instance="one"), make_login_service(instance="two")
    new_login = await begin(one)

    resumed = await two.resume(new_login.login.id, new_login.secret, app="shop")

    assert (resumed.state, resumed.instance) == (State.PENDING, "two")
    async with bus.listen("two") as notices:
        await one.scan(new_login.login.scene, ALICE)
        assert (await anext(notices)).event == "login-scanned"


async def test_resume_returns_the_current_state(login_service: LoginMethods, clock: Clock) -> None:
    new_login = await begin(login_service)

    clock.time += 130

    resumed = await login_service.resume(new_login.login.id, new_login.secret, app="shop")
    assert resumed.state is State.EXPIRED


async def test_abandon_cancels_only_an_active_login(
    login_service: LoginMethods,
) -> None:
    live = await begin(login_service)
    done = await confirmed(login_service)
    await login_service.redeem(done.login.id, done.secret, app="shop")

    for new_login in (live, done):
        await login_service.abandon(new_login.login.id)
    await login_service.abandon("never-was")

    states = [await login_service.get(new_login.login.id) for new_login in (live, done)]
    assert [login and login.state for login in states] == [State.CANCELLED, State.REDEEMED]


async def test_redeem_with_a_lost_state_response_is_repeatable(
    login_service: LoginMethods,
    make_login_service: Callable[..., LoginMethods],
    store: StateBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login is stored as redeemed, but the instance does not learn this and issues no token."""
    new_login = await confirmed(login_service)
    swap = store.logins.swap

    async def lose_answer(before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        await swap(before, after, notice)
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(store.logins, "swap", lose_answer)
        with pytest.raises(Unavailable):
            await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    other = make_login_service(instance="two")
    redeemed = await other.redeem(new_login.login.id, new_login.secret, app="shop")
    assert claims_of(redeemed)["jti"] == new_login.login.id


async def test_redeemed_login_cannot_be_cancelled(login_service: LoginMethods) -> None:
    new_login = await confirmed(login_service)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    with pytest.raises(NotAllowed):
        await login_service.cancel(new_login.login.id, new_login.secret, app="shop")


async def test_redeemed_login_that_is_resumed_elsewhere_stays_redeemed(
    login_service: LoginMethods, make_login_service: Callable[..., LoginMethods]
) -> None:
    new_login = await confirmed(login_service)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

    resumed = await make_login_service(instance="two").resume(
        new_login.login.id, new_login.secret, app="shop"
    )

    assert (resumed.state, resumed.instance) == (State.REDEEMED, "two")
    assert await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def test_resume_elsewhere_notifies_the_former_instance(
    login_service: LoginMethods, make_login_service: Callable[..., LoginMethods], bus: Bus
) -> None:
    new_login = await begin(login_service)

    async with bus.listen("one") as notices:
        await make_login_service(instance="two").resume(
            new_login.login.id, new_login.secret, app="shop"
        )

        assert await anext(notices) == Notice("login-moved", new_login.login.id)


async def test_code_url_is_available_until_the_scan(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)
    assert (await login_service.typed(code, address="192.0.2.1")).code_url == new_login.code_url

    await login_service.scan(new_login.login.scene, ALICE)

    assert (await login_service.typed(code, address="192.0.2.1")).code_url == ""


async def test_unknown_app_cannot_begin_a_login(login_service: LoginMethods) -> None:
    with pytest.raises(UnknownApp):
        await login_service.begin("unknown", FIREFOX, has_socket=True)


async def test_unreplicated_act_publishes_nothing_and_issues_no_token(
    login_service: LoginMethods, store: StateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned, new_login = await begin(login_service), await confirmed(login_service)
    await login_service.scan(scanned.login.scene, ALICE)

    async def refuse(login: Login) -> None:
        raise Unavailable

    monkeypatch.setattr(store.logins, "secure", refuse)

    for _ in range(2):  # a repeat is refused too
        with pytest.raises(Unavailable):
            await login_service.confirm(scanned.login.id, ALICE)
        with pytest.raises(Unavailable):
            await login_service.redeem(new_login.login.id, new_login.secret, app="shop")

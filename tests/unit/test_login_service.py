"""One login from begin to token, without a network."""

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
from broker.identity.model import Identity
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
    """Its tokens expire before the redelivery window ends."""
    return TokenIssuer(
        file=SigningKeyFile(tmp_path / "short.json"),
        algorithm="ES256",
        issuer="https://login.example",
        lifetime=10,
        host_clock=clock,
    )


async def begin(flow: LoginMethods, *, waits_here: bool = True) -> NewLogin:
    return await flow.begin("shop", FIREFOX, has_socket=waits_here)


async def confirmed(flow: LoginMethods) -> NewLogin:
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)
    await flow.confirm(begun.login.id, ALICE)
    return begun


async def test_a_login_from_begin_to_token(flow: LoginMethods) -> None:
    login, secret, _ = await begin(flow)

    scanned = await flow.scan(login.scene, ALICE)
    await flow.confirm(login.id, ALICE)
    redeemed = await flow.redeem(login.id, secret, app="shop")

    assert scanned.app == SHOP
    assert scanned.login.browser == FIREFOX
    assert redeemed.login.subject == "pretend:alice"
    assert redeemed.token.access_token.count(".") == 2


async def test_the_three_names_have_their_forms(flow: LoginMethods) -> None:
    begun = await begin(flow)

    assert len(begun.login.id) == 22
    assert len(begun.login.scene) == 32
    assert len(begun.secret) == 43
    assert begun.secret.encode() not in begun.login.secret_hash


async def test_the_code_is_a_picture_that_a_page_can_show(flow: LoginMethods) -> None:
    begun = await begin(flow)

    head, _, content = begun.code_url.partition(",")
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(content).startswith(b"<svg")


async def test_no_two_logins_share_a_name(flow: LoginMethods) -> None:
    begun = [await begin(flow) for _ in range(100)]

    names = {name for one in begun for name in (one.login.id, one.login.scene, one.secret)}
    assert len(names) == 300


async def test_the_browser_is_told_of_every_step(flow: LoginMethods, bus: Bus) -> None:
    async with bus.listen("one") as notices:
        begun = await confirmed(flow)
        other = await begin(flow)
        await flow.scan(other.login.scene, ALICE)
        await flow.deny(other.login.id, ALICE)

        assert [await anext(notices) for _ in range(4)] == [
            Notice("login-scanned", begun.login.id),
            Notice("login-confirmed", begun.login.id),
            Notice("login-scanned", other.login.id),
            Notice("login-denied", other.login.id),
        ]


async def test_the_change_is_stored_before_the_browser_is_told(
    flow: LoginMethods, bus: Bus, store: StateBackend
) -> None:
    async with bus.listen("one") as notices:
        begun = await begin(flow)
        scanning = asyncio.create_task(flow.scan(begun.login.scene, ALICE))
        await anext(notices)

        stored = await store.logins.get(begun.login.id)
        assert stored is not None
        assert stored.state is State.SCANNED
        await scanning


async def test_an_act_stands_when_the_browser_cannot_be_told(
    make_flow: Callable[..., LoginMethods],
    flow: LoginMethods,
    monkeypatch: pytest.MonkeyPatch,
    bus: Bus,
) -> None:
    async def down(instance: str, notice: Notice) -> None:
        raise Unavailable

    begun = await begin(flow)
    monkeypatch.setattr(bus, "publish", down)

    await flow.scan(begun.login.scene, ALICE)
    await flow.confirm(begun.login.id, ALICE)

    assert (await flow.redeem(begun.login.id, begun.secret, app="shop")).token


async def test_a_login_that_is_polled_for_sends_no_notice(flow: LoginMethods, bus: Bus) -> None:
    async with bus.listen("") as nobody, bus.listen("one") as one:
        begun = await begin(flow, waits_here=False)
        await flow.scan(begun.login.scene, ALICE)

        for instance, notices in (("", nobody), ("one", one)):
            await bus.publish(instance, Notice("next", "none before it"))
            assert await anext(notices) == Notice("next", "none before it")


async def test_a_code_left_too_long_cannot_be_scanned(flow: LoginMethods, clock: Clock) -> None:
    begun = await begin(flow)
    clock.time += 120

    with pytest.raises(LoginExpired):
        await flow.scan(begun.login.scene, ALICE)


@pytest.mark.parametrize("secret", ["wrong", ""])
async def test_a_wrong_secret_and_an_unknown_login_are_answered_alike(
    flow: LoginMethods, secret: str
) -> None:
    begun = await confirmed(flow)

    answers = []
    for login_id in (begun.login.id, "no-such-login"):
        for verb in (flow.redeem, flow.resume, flow.cancel):
            with pytest.raises(UnknownLogin) as refusal:
                await verb(login_id, secret, app="shop")
            answers.append(refusal.value.body())

    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("secret", ["", "wrong"])
async def test_a_login_is_nothing_to_another_app_whatever_secret_it_shows(
    flow: LoginMethods, secret: str
) -> None:
    begun = await confirmed(flow)

    with pytest.raises(UnknownLogin):
        await flow.redeem(begun.login.id, secret, app="other")


async def test_a_login_is_nothing_to_another_app(flow: LoginMethods) -> None:
    begun = await confirmed(flow)
    stranger = ALICE._replace(app="other")

    for verb in (flow.redeem, flow.resume, flow.cancel):
        with pytest.raises(UnknownLogin):
            await verb(begun.login.id, begun.secret, app="other")
    with pytest.raises(UnknownScene):
        await flow.scan(begun.login.scene, stranger)
    with pytest.raises(UnknownLogin):
        await flow.confirm(begun.login.id, stranger)


def claims_of(redeemed: RedeemedLogin) -> dict[str, Any]:
    """The token's claims, unverified."""
    token = redeemed.token.access_token
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_repeated_redeem_returns_the_same_token(
    flow: LoginMethods, make_flow: Callable[..., LoginMethods], clock: Clock
) -> None:
    begun = await confirmed(flow)
    first = await flow.redeem(begun.login.id, begun.secret, app="shop")

    clock.time += REDELIVERY_LIFETIME - 1
    other = make_flow(instance="two")
    again = await other.redeem(begun.login.id, begun.secret, app="shop")

    assert claims_of(again) == claims_of(first)
    assert claims_of(first)["jti"] == begun.login.id
    assert (first.token.expires_in, again.token.expires_in) == (600, 600 - 59)


async def test_redeem_after_the_redelivery_window_is_refused(
    flow: LoginMethods, clock: Clock
) -> None:
    begun = await confirmed(flow)
    await flow.redeem(begun.login.id, begun.secret, app="shop")

    clock.time += REDELIVERY_LIFETIME

    with pytest.raises(AlreadyRedeemed):
        await flow.redeem(begun.login.id, begun.secret, app="shop")


async def test_token_that_has_expired_is_not_issued_again(
    make_flow: Callable[..., LoginMethods], short_issuer: TokenIssuer, clock: Clock
) -> None:
    flow = make_flow(issuer=short_issuer)
    begun = await confirmed(flow)
    await flow.redeem(begun.login.id, begun.secret, app="shop")

    clock.time += 10

    with pytest.raises(AlreadyRedeemed):
        await flow.redeem(begun.login.id, begun.secret, app="shop")


async def test_repeated_redeem_needs_the_secret(flow: LoginMethods) -> None:
    begun = await confirmed(flow)
    await flow.redeem(begun.login.id, begun.secret, app="shop")

    for secret, app in [("A" * 43, "shop"), (begun.login.scene, "shop"), (begun.secret, "other")]:
        with pytest.raises(UnknownLogin):
            await flow.redeem(begun.login.id, secret, app=app)


async def test_repeated_redeem_counts_as_one_login(
    flow: LoginMethods, trail: RecordingAuditLog
) -> None:
    counted, issued_again = login_counter("shop", State.REDEEMED), REDELIVERIES
    before = counted._value.get(), issued_again._value.get()
    begun = await confirmed(flow)

    for _ in range(3):
        await flow.redeem(begun.login.id, begun.secret, app="shop")

    assert counted._value.get() - before[0] == 1
    assert issued_again._value.get() - before[1] == 2
    assert [(name, state) for name, state, _ in trail.ends] == [(begun.login.id, State.REDEEMED)]


async def test_a_token_that_could_not_be_signed_is_not_used_up(
    flow: LoginMethods, issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise OSError("no entropy")

    begun = await confirmed(flow)
    with monkeypatch.context() as patch:
        patch.setattr(issuer, "issue", broken)
        with pytest.raises(OSError, match="entropy"):
            await flow.redeem(begun.login.id, begun.secret, app="shop")

    assert await flow.redeem(begun.login.id, begun.secret, app="shop")


async def test_an_act_that_is_repeated_is_told_once(flow: LoginMethods, bus: Bus) -> None:
    """Or whoever scanned could flood the browser."""
    begun = await begin(flow)
    async with bus.listen("one") as notices:
        for _ in range(3):
            await flow.scan(begun.login.scene, ALICE)
        await flow.deny(begun.login.id, ALICE)

        assert [(await anext(notices)).event for _ in range(2)] == ["login-scanned", "login-denied"]


async def test_a_repeated_confirm_does_not_ask_the_directory(
    make_flow: Callable[..., LoginMethods],
) -> None:
    register = FixedDirectory("alice")
    flow = make_flow(directory=register)
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)
    await flow.confirm(begun.login.id, ALICE)
    register.known.clear()

    assert (await flow.confirm(begun.login.id, ALICE)).subject == "user-alice"


async def test_simultaneous_redeems_return_one_token(
    flow: LoginMethods, trail: RecordingAuditLog, clock: Clock
) -> None:
    begun = await confirmed(flow)

    async def redeem() -> RedeemedLogin:
        clock.time += 0.1
        return await flow.redeem(begun.login.id, begun.secret, app="shop")

    first, *others = map(claims_of, await asyncio.gather(*(redeem() for _ in range(100))))

    assert all(claims == first for claims in others)
    assert len(trail.ends) == 1


async def test_of_two_phones_at_once_one_has_scanned(flow: LoginMethods) -> None:
    begun = await begin(flow)

    async def scan(phone: object) -> bool:
        try:
            return bool(await flow.scan(begun.login.scene, phone))  # type: ignore[arg-type]
        except AlreadyScanned:
            return False

    assert sorted(await asyncio.gather(scan(ALICE), scan(BOB))) == [False, True]


async def test_a_phone_on_a_bad_network_may_ask_again(flow: LoginMethods) -> None:
    begun = await begin(flow)
    for _ in range(2):
        await flow.scan(begun.login.scene, ALICE)
    for _ in range(2):
        await flow.confirm(begun.login.id, ALICE)
    await flow.redeem(begun.login.id, begun.secret, app="shop")

    assert (await flow.confirm(begun.login.id, ALICE)).state is State.REDEEMED


class Blocking(OpenDirectory):
    """Knows everybody, and lets nobody in."""

    async def find(self, identity: Identity) -> str:
        raise UserBlocked


async def test_somebody_blocked_ends_the_login(
    make_flow: Callable[..., LoginMethods], bus: Bus, trail: RecordingAuditLog
) -> None:
    flow = make_flow(directory=Blocking())
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)
    async with bus.listen("one") as notices:
        with pytest.raises(UserBlocked):
            await flow.confirm(begun.login.id, ALICE)
        assert (await anext(notices)).event == "login-denied"

    assert [(name, state) for name, state, _ in trail.ends] == [(begun.login.id, State.DENIED)]
    with pytest.raises(LoginDenied):
        await flow.redeem(begun.login.id, begun.secret, app="shop")


async def test_repeated_confirm_of_a_blocked_person_is_denied_again(
    make_flow: Callable[..., LoginMethods],
) -> None:
    flow = make_flow(directory=Blocking())
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)

    words = []
    for _ in range(2):
        with pytest.raises(BrokerError) as refused:
            await flow.confirm(begun.login.id, ALICE)
        words.append(refused.value.error)

    assert words == ["access_denied", "access_denied"]


async def test_a_phone_that_did_not_scan_is_asked_nothing_of_the_directory(
    make_flow: Callable[..., LoginMethods],
) -> None:
    flow = make_flow(directory=Blocking())
    begun = await begin(flow)
    await flow.scan(begun.login.scene, BOB)

    with pytest.raises(WrongPhone):
        await flow.confirm(begun.login.id, ALICE)
    login = await flow.get(begun.login.id)
    assert login is not None
    assert login.state is State.SCANNED


async def test_an_unknown_person_may_register_and_confirm_again(
    make_flow: Callable[..., LoginMethods], bus: Bus
) -> None:
    register = FixedDirectory()
    flow = make_flow(directory=register)
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)

    async with bus.listen("one") as notices:
        with pytest.raises(UnregisteredUser) as refusal:
            await flow.confirm(begun.login.id, ALICE)
        assert await anext(notices) == Notice("login-unregistered", begun.login.id)
    assert refusal.value.body()["register_url"] == SHOP.register_url

    register.known.add("alice")
    await flow.confirm(begun.login.id, ALICE)
    redeemed = await flow.redeem(begun.login.id, begun.secret, app="shop")
    assert redeemed.login.subject == "user-alice"


async def test_unregistered_confirm_extends_the_login_once(
    make_flow: Callable[..., LoginMethods], clock: Clock
) -> None:
    register = FixedDirectory()
    flow = make_flow(directory=register)
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)

    for _ in range(2):
        with pytest.raises(UnregisteredUser):
            await flow.confirm(begun.login.id, ALICE)
        clock.time += 299

    register.known.add("alice")
    assert (await flow.confirm(begun.login.id, ALICE)).state is State.CONFIRMED


async def test_extended_login_expires_after_the_register_lifetime(
    make_flow: Callable[..., LoginMethods], clock: Clock
) -> None:
    flow = make_flow(directory=FixedDirectory())
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)
    with pytest.raises(UnregisteredUser):
        await flow.confirm(begun.login.id, ALICE)
    clock.time += 599
    with pytest.raises(UnregisteredUser):
        await flow.confirm(begun.login.id, ALICE)

    clock.time += 1

    with pytest.raises(LoginExpired):
        await flow.confirm(begun.login.id, ALICE)


async def test_resume_during_unregistered_confirm_keeps_the_extension(
    make_flow: Callable[..., LoginMethods], bus: Bus
) -> None:
    class Slow(FixedDirectory):
        async def find(self, identity: Identity) -> str:
            await two.resume(begun.login.id, begun.secret, app="shop")
            return await super().find(identity)

    one, two = make_flow(directory=Slow()), make_flow(instance="two")
    begun = await begin(one)
    await one.scan(begun.login.scene, ALICE)

    async with bus.listen("two") as notices:
        with pytest.raises(UnregisteredUser):
            await one.confirm(begun.login.id, ALICE)
        assert await anext(notices) == Notice("login-unregistered", begun.login.id)
    login = await one.get(begun.login.id)
    assert login is not None
    assert (login.unregistered, login.expires_at) == (True, begun.login.expires_at + 480)


async def test_the_directory_is_not_asked_about_another_phone(
    make_flow: Callable[..., LoginMethods],
) -> None:
    flow = make_flow(directory=FixedDirectory())
    begun = await begin(flow)
    await flow.scan(begun.login.scene, ALICE)

    with pytest.raises(WrongPhone):
        await flow.confirm(begun.login.id, BOB)


async def test_a_browser_may_come_back_on_another_instance(
    make_flow: Callable[..., LoginMethods], bus: Bus
) -> None:
    one, two = make_flow(instance="one"), make_flow(instance="two")
    begun = await begin(one)

    resumed = await two.resume(begun.login.id, begun.secret, app="shop")

    assert (resumed.state, resumed.instance) == (State.PENDING, "two")
    async with bus.listen("two") as notices:
        await one.scan(begun.login.scene, ALICE)
        assert (await anext(notices)).event == "login-scanned"


async def test_resuming_tells_what_became_of_the_login(flow: LoginMethods, clock: Clock) -> None:
    begun = await begin(flow)

    clock.time += 130

    resumed = await flow.resume(begun.login.id, begun.secret, app="shop")
    assert resumed.state is State.EXPIRED


async def test_an_abandoned_login_is_cancelled_and_one_that_is_over_stays(
    flow: LoginMethods,
) -> None:
    live = await begin(flow)
    done = await confirmed(flow)
    await flow.redeem(done.login.id, done.secret, app="shop")

    for begun in (live, done):
        await flow.abandon(begun.login.id)
    await flow.abandon("never-was")

    states = [await flow.get(begun.login.id) for begun in (live, done)]
    assert [login and login.state for login in states] == [State.CANCELLED, State.REDEEMED]


async def test_redeem_with_a_lost_state_answer_can_be_repeated(
    flow: LoginMethods,
    make_flow: Callable[..., LoginMethods],
    store: StateBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login is stored as redeemed, and the instance learns nothing of it and issues nothing."""
    begun = await confirmed(flow)
    swap = store.logins.swap

    async def lose_answer(before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        await swap(before, after, notice)
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(store.logins, "swap", lose_answer)
        with pytest.raises(Unavailable):
            await flow.redeem(begun.login.id, begun.secret, app="shop")

    other = make_flow(instance="two")
    redeemed = await other.redeem(begun.login.id, begun.secret, app="shop")
    assert claims_of(redeemed)["jti"] == begun.login.id


async def test_redeemed_login_cannot_be_cancelled(flow: LoginMethods) -> None:
    begun = await confirmed(flow)
    await flow.redeem(begun.login.id, begun.secret, app="shop")

    with pytest.raises(NotAllowed):
        await flow.cancel(begun.login.id, begun.secret, app="shop")


async def test_redeemed_login_that_is_resumed_elsewhere_stays_redeemed(
    flow: LoginMethods, make_flow: Callable[..., LoginMethods]
) -> None:
    begun = await confirmed(flow)
    await flow.redeem(begun.login.id, begun.secret, app="shop")

    resumed = await make_flow(instance="two").resume(begun.login.id, begun.secret, app="shop")

    assert (resumed.state, resumed.instance) == (State.REDEEMED, "two")
    assert await flow.redeem(begun.login.id, begun.secret, app="shop")


async def test_a_login_that_is_resumed_elsewhere_is_told_to_its_former_instance(
    flow: LoginMethods, make_flow: Callable[..., LoginMethods], bus: Bus
) -> None:
    begun = await begin(flow)

    async with bus.listen("one") as notices:
        await make_flow(instance="two").resume(begun.login.id, begun.secret, app="shop")

        assert await anext(notices) == Notice("login-moved", begun.login.id)


async def test_only_a_code_that_can_be_scanned_is_drawn_again(flow: LoginMethods) -> None:
    begun = await begin(flow)
    assert await flow.code_url(begun.login.scene) == begun.code_url

    await flow.scan(begun.login.scene, ALICE)

    for scene in (begun.login.scene, "unknown"):
        with pytest.raises(UnknownScene):
            await flow.code_url(scene)


async def test_an_unknown_app_begins_nothing(flow: LoginMethods) -> None:
    with pytest.raises(UnknownApp):
        await flow.begin("nobody", FIREFOX, has_socket=True)


async def test_what_no_replica_holds_is_not_told_and_hands_nothing_over(
    flow: LoginMethods, store: StateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned, begun = await begin(flow), await confirmed(flow)
    await flow.scan(scanned.login.scene, ALICE)

    async def refuse(login: Login) -> None:
        raise Unavailable

    monkeypatch.setattr(store.logins, "secure", refuse)

    for _ in range(2):  # a repeat is refused too
        with pytest.raises(Unavailable):
            await flow.confirm(scanned.login.id, ALICE)
        with pytest.raises(Unavailable):
            await flow.redeem(begun.login.id, begun.secret, app="shop")

"""Tests of user codes: the short codes that people type."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.apps.model import App
from broker.errors import RateLimited
from broker.identity.errors import UnregisteredUser
from broker.login.device_codes import TypedLogin
from broker.login.errors import UnknownScene
from broker.login.limits import USER_CODES_MAX, USER_CODES_NETWORK_FACTOR, UserCodeLimit
from broker.login.model import State
from broker.login.ports import LOGIN_RETENTION
from broker.login.service import NewLogin
from broker.login.user_code import (
    ALPHABET,
    _ascii_letters,
    _letters,
    derive_user_code,
    parse_user_code,
)
from broker.state import StateBackend
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
    SHOP,
    Clock,
    FixedDirectory,
    LoginMethods,
    a_login,
)

IP = "192.0.2.1"
UNKNOWN = "BBBB-BBBB"


async def begin(login_service: LoginMethods) -> NewLogin:
    return await login_service.begin("shop", FIREFOX, has_socket=True)


def test_user_code_has_eight_letters_without_vowels() -> None:
    code = derive_user_code(b"hash", 0)

    assert len(code) == 8
    assert set(code) <= set(ALPHABET)
    assert not set(ALPHABET) & set("AEIOUY")
    assert code == derive_user_code(b"hash", 0) != derive_user_code(b"hash", 1)


@pytest.mark.parametrize(
    "typed",
    [
        "WDJBMJHT",
        "WDJB-MJHT",
        " wdjb mjht\n",
        "WDJB \N{EN DASH} MJHT",
        "WDJB\N{NO-BREAK SPACE}MJHT",
        "\N{ZERO WIDTH SPACE}WDJB.MJHT",
        "ＷＤＪＢＭＪＨＴ",
    ],
)
def test_typed_code_is_normalized(typed: str) -> None:
    assert parse_user_code(typed) == "WDJBMJHT"


@pytest.mark.parametrize("typed", ["", "WDJBMJH", "WDJBMJHTT", "WDJBMJHA", "WDJBMJH1", "x" * 9_000])
def test_other_text_is_refused(typed: str) -> None:
    assert parse_user_code(typed) is None


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_ascii_text_has_the_letters_of_other_text(text: str) -> None:
    assert _ascii_letters(text) == _letters(text)


async def test_user_code_of_a_login_stays_the_same(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)

    codes = {await login_service.user_code(new_login.login) for _ in range(3)}

    assert len(codes) == 1
    assert codes.pop()[4] == "-"


async def test_taken_code_is_replaced(
    login_service: LoginMethods, store: StateBackend, clock: Clock
) -> None:
    first = a_login(clock)
    code = await login_service.user_code(first)

    other = await login_service.user_code(replace(first, id="another"))

    assert other != code


async def test_typed_code_leads_to_its_login(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)

    typed = await login_service.typed(code.lower(), address=IP)

    link = f"http://phone.example/?scene={new_login.login.scene}"
    assert typed == TypedLogin(State.PENDING, "pretend", new_login.code_url, link)


@pytest.mark.parametrize(
    ("confirm", "state"), [(False, State.DENIED), (True, State.CONFIRMED)], ids=["deny", "confirm"]
)
async def test_typed_code_shows_the_end(
    login_service: LoginMethods, confirm: bool, state: State
) -> None:
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    decide = login_service.confirm if confirm else login_service.deny

    await decide(new_login.login.id, ALICE)

    assert await login_service.typed(code, address=IP) == TypedLogin(state, "pretend")


async def test_typed_code_leads_to_registration_until_its_end(
    make_login_service: Callable[..., LoginMethods], clock: Clock
) -> None:
    login_service = make_login_service(directory=FixedDirectory())
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    with pytest.raises(UnregisteredUser):
        await login_service.confirm(new_login.login.id, ALICE)

    first = await login_service.typed(code, address=IP)
    clock.time += 599

    url = SHOP.register_url
    assert first == TypedLogin(State.SCANNED, "pretend", is_unregistered=True, register_url=url)
    assert await login_service.typed(code, address=IP) == first


async def test_phone_scans_a_typed_code(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)

    scanned = await login_service.scan(code, ALICE)

    assert scanned.login.id == new_login.login.id


async def test_code_of_an_expired_login_leads_nowhere(
    login_service: LoginMethods, clock: Clock
) -> None:
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)
    clock.time = new_login.login.expires_at
    assert (await login_service.typed(code, address=IP)).state is State.EXPIRED

    clock.time += LOGIN_RETENTION

    with pytest.raises(UnknownScene):
        await login_service.typed(code, address=IP)


async def test_code_of_a_removed_app_is_unknown(
    make_login_service: Callable[..., LoginMethods],
) -> None:
    before = make_login_service()
    code = await before.user_code((await begin(before)).login)
    another = App(id="shop", name="Shop", origins=frozenset(), incarnation="another")

    with pytest.raises(UnknownScene):
        await make_login_service(apps=(another,)).typed(code, address=IP)


async def test_address_with_many_guesses_is_refused(login_service: LoginMethods) -> None:
    code = await login_service.user_code((await begin(login_service)).login)
    for _ in range(USER_CODES_MAX):
        with pytest.raises(UnknownScene):
            await login_service.typed(UNKNOWN, address=IP)

    with pytest.raises(RateLimited):
        await login_service.typed(code, address=IP)

    assert (await login_service.typed(code, address="192.0.2.2")).state is State.PENDING


async def test_person_with_many_guesses_is_refused(login_service: LoginMethods) -> None:
    new_login = await begin(login_service)
    code = await login_service.user_code(new_login.login)
    for _ in range(USER_CODES_MAX):
        with pytest.raises(UnknownScene):
            await login_service.scan(UNKNOWN, BOB)

    with pytest.raises(RateLimited):
        await login_service.scan(code, BOB)

    assert (await login_service.scan(new_login.login.scene, BOB)).app == SHOP


def test_simultaneous_guesses_are_counted_from_their_start() -> None:
    limit = UserCodeLimit()
    with ExitStack() as stack:
        for _ in range(USER_CODES_MAX):
            stack.enter_context(limit.counting(IP))

        with pytest.raises(RateLimited), limit.counting(IP):
            pass

    with limit.counting(IP):  # none of the codes was unknown
        pass


def test_ipv6_customer_with_many_networks_is_refused() -> None:
    limit = UserCodeLimit()
    for n in range(USER_CODES_NETWORK_FACTOR * USER_CODES_MAX):
        with pytest.raises(UnknownScene), limit.counting(f"2001:db8:1:{n:x}::1"):
            raise UnknownScene

    with pytest.raises(RateLimited), limit.counting("2001:db8:1:ffff::1"):
        pass

    with limit.counting("2001:db8:2::1"):
        pass


async def test_malformed_code_is_not_counted(login_service: LoginMethods) -> None:
    for _ in range(USER_CODES_MAX + 1):
        with pytest.raises(UnknownScene):
            await login_service.typed("hello", address=IP)

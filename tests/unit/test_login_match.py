"""Matches: the number of the browser and the digits of the phone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from broker.errors import RateLimited
from broker.identity.errors import UnregisteredUser
from broker.identity.model import Identity, Phone
from broker.infrastructure.coordination import Bus, Notice
from broker.login.browser_fields import match_fields
from broker.login.errors import (
    AlreadyScanned,
    LoginDenied,
    LoginExpired,
    LoginRefused,
    MatchRequired,
    NetworkNotAllowed,
    NotAllowed,
    PhoneTooOld,
    UnknownLogin,
    UnknownScene,
    WrongMatch,
    WrongPhone,
)
from broker.login.events import REFUSED_EVENT, current_event
from broker.login.limits import JUDGED_SCANS_PER_MINUTE
from broker.login.match import CHOICES, DIGITS, TRIES_MAX, Match, draw_digits, draw_match
from broker.login.metrics import CODES_SHARED
from broker.login.model import PROOF_LIFETIME, Act, Browser, Decision, Login, State, Verdict
from broker.login.ports import PolicyCase
from broker.login.rules import apply
from broker.login.scanner import ScanningPhone
from broker.login.service import Handshake, NewLogin
from broker.state import StateBackend
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
    SHOP,
    Clock,
    FixedDirectory,
    LoginMethods,
    RecordingAuditLog,
    a_login,
)

NUMBER = replace(SHOP, match="number")

CODE = replace(SHOP, match="code")

NEW_PHONE = ScanningPhone("192.0.2.9", knows_match=True)

MakeService = Callable[..., LoginMethods]


class FixedPolicy:
    """A policy with one verdict. It keeps the cases that it has judged."""

    def __init__(self, decision: Decision, reason: str = "") -> None:
        self.verdict = Verdict(decision, reason)
        self.cases: list[PolicyCase] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def judge(self, case: PolicyCase) -> Verdict:
        self.cases.append(case)
        return self.verdict


class Scanned(NamedTuple):
    """A scanned login, its browser's secret and its match."""

    login: Login
    secret: str
    match: Match


async def begin(service: LoginMethods, handshake: Handshake | None = None) -> NewLogin:
    return await service.begin(
        "shop", FIREFOX, has_socket=True, handshake=handshake or Handshake("https://shop.example")
    )


async def scanned(service: LoginMethods) -> Scanned:
    new_login = await begin(service)
    login, _ = await service.scan(new_login.login.scene, ALICE, NEW_PHONE)
    assert login.match is not None
    return Scanned(login, new_login.secret, login.match)


def wrong_number(match: Match) -> str:
    return next(choice for choice in match.choices if choice != match.answer)


def wrong_digits(login: Login) -> str:
    assert login.match is not None
    return f"{(int(login.match.answer) + 1) % 10_000:04}"


def other_person(number: int) -> Phone:
    return Phone("shop", Identity("pretend", f"person-{number}"))


async def confirmed_by(service: LoginMethods, phone: Phone) -> bool:
    """Return whether a login of another person with the right number is confirmed."""
    new_login = await begin(service)
    login, _ = await service.scan(new_login.login.scene, phone, NEW_PHONE)
    assert login.match is not None
    return (await service.confirm(login.id, phone, login.match.answer)).state is State.CONFIRMED


async def test_right_number_confirms_the_login(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[NUMBER])
    login, secret, match = await scanned(service)

    confirmed = await service.confirm(login.id, ALICE, match.answer)
    redeemed = await service.redeem(login.id, secret, app="shop")

    assert confirmed.state is State.CONFIRMED
    assert redeemed.login.auth_methods == ("scan", "match")


async def test_wrong_number_ends_the_login(
    make_login_service: MakeService, trail: RecordingAuditLog
) -> None:
    service = make_login_service(apps=[NUMBER])
    login, secret, match = await scanned(service)

    with pytest.raises(WrongMatch):
        await service.confirm(login.id, ALICE, wrong_number(match))

    with pytest.raises(LoginDenied):
        await service.confirm(login.id, ALICE, match.answer)
    with pytest.raises(LoginDenied):
        await service.redeem(login.id, secret, app="shop")
    assert [state for _, state, _ in trail.ends] == [State.DENIED]


async def test_confirm_without_a_number_changes_nothing(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[NUMBER])
    login, _, match = await scanned(service)

    with pytest.raises(MatchRequired, match="match"):
        await service.confirm(login.id, ALICE)

    assert (await service.confirm(login.id, ALICE, match.answer)).state is State.CONFIRMED


async def test_second_phone_cannot_choose_the_number(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[NUMBER])
    login, _, match = await scanned(service)

    with pytest.raises(WrongPhone):
        await service.confirm(login.id, BOB, wrong_number(match))

    assert (await service.confirm(login.id, ALICE, match.answer)).state is State.CONFIRMED


async def test_repeated_scan_returns_the_same_choices(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[NUMBER])
    login, _, match = await scanned(service)

    again, _ = await service.scan(login.scene, ALICE, NEW_PHONE)

    assert again.match == match


async def test_number_is_required_again_after_registration(
    make_login_service: MakeService,
) -> None:
    directory = FixedDirectory()
    service = make_login_service(apps=[NUMBER], directory=directory)
    login, _, match = await scanned(service)
    with pytest.raises(UnregisteredUser):
        await service.confirm(login.id, ALICE, match.answer)
    directory.known.add("alice")

    with pytest.raises(WrongMatch):
        await service.confirm(login.id, ALICE, wrong_number(match))


async def test_wrong_number_is_refused_without_the_directory(
    make_login_service: MakeService,
) -> None:
    service = make_login_service(apps=[NUMBER], directory=FixedDirectory())
    login, _, match = await scanned(service)

    with pytest.raises(WrongMatch):
        await service.confirm(login.id, ALICE, wrong_number(match))


async def test_right_digits_confirm_the_login(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[CODE])
    login, secret, _ = await scanned(service)

    waiting = await service.confirm(login.id, ALICE)
    assert (waiting.state, waiting.shows_digits) == (State.SCANNED, True)
    assert waiting.match is not None
    proved = await service.prove(login.id, secret, waiting.match.answer, app="shop")

    assert proved.state is State.CONFIRMED
    assert (await service.redeem(login.id, secret, app="shop")).login.subject == "pretend:alice"


async def test_repeated_confirm_returns_the_same_digits(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[CODE])
    login, _, _ = await scanned(service)
    waiting = await service.confirm(login.id, ALICE)

    assert await service.confirm(login.id, ALICE) == waiting


async def test_third_wrong_answer_ends_the_login(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[CODE])
    login, secret, _ = await scanned(service)
    waiting = await service.confirm(login.id, ALICE)

    tried = [
        await service.prove(login.id, secret, wrong_digits(waiting), app="shop")
        for _ in range(TRIES_MAX)
    ]

    assert [one.state for one in tried] == [State.SCANNED, State.SCANNED, State.DENIED]
    assert [one.match.tries_left for one in tried if one.match] == [2, 1, 0]
    assert tried[-1].reason == "match"


async def test_person_with_three_wrong_numbers_must_wait(make_login_service: MakeService) -> None:
    """Otherwise a person who is sent many codes soon chooses the number of one of them."""
    service = make_login_service(apps=[NUMBER])
    logins = [await scanned(service) for _ in range(4)]  # all of them before the first answer

    for login, _, match in logins[:3]:
        with pytest.raises(WrongMatch):
            await service.confirm(login.id, ALICE, wrong_number(match))

    with pytest.raises(RateLimited) as refused:
        await service.confirm(logins[3].login.id, ALICE, logins[3].match.answer)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 60
    assert await confirmed_by(service, BOB)


async def test_wrong_digits_over_many_logins_are_limited(make_login_service: MakeService) -> None:
    """A guess that ends no login counts as well."""
    service = make_login_service(apps=[CODE])
    former, former_secret, _ = await scanned(service)
    await service.confirm(former.id, ALICE)
    for _ in range(3 * TRIES_MAX):
        login, secret, _ = await scanned(service)
        waiting = await service.confirm(login.id, ALICE)
        await service.prove(login.id, secret, wrong_digits(waiting), app="shop")

    login, _, _ = await scanned(service)
    with pytest.raises(RateLimited):
        await service.confirm(login.id, ALICE)
    with pytest.raises(RateLimited):
        await service.prove(former.id, former_secret, "0000", app="shop")


async def test_digits_expire_after_sixty_seconds(
    make_login_service: MakeService, clock: Clock
) -> None:
    service = make_login_service(apps=[CODE])
    login, secret, _ = await scanned(service)
    waiting = await service.confirm(login.id, ALICE)
    assert waiting.match is not None
    clock.time += PROOF_LIFETIME

    with pytest.raises(LoginExpired):
        await service.prove(login.id, secret, waiting.match.answer, app="shop")


async def test_digits_need_the_secret_of_the_login(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[CODE])
    login, _, _ = await scanned(service)
    waiting = await service.confirm(login.id, ALICE)
    assert waiting.match is not None

    with pytest.raises(UnknownLogin):
        await service.prove(login.id, "wrong", waiting.match.answer, app="shop")


@pytest.mark.parametrize("app", [SHOP, NUMBER, CODE], ids=lambda app: app.match)
async def test_proof_before_the_digits_is_refused(
    make_login_service: MakeService, app: object
) -> None:
    service = make_login_service(apps=[app])
    new_login = await begin(service)
    await service.scan(new_login.login.scene, ALICE, NEW_PHONE)

    for answer in ("", "0000"):
        with pytest.raises(NotAllowed):
            await service.prove(new_login.login.id, new_login.secret, answer, app="shop")


async def test_repeated_proof_returns_the_confirmed_login(make_login_service: MakeService) -> None:
    service = make_login_service(apps=[CODE])
    login, secret, _ = await scanned(service)
    waiting = await service.confirm(login.id, ALICE)
    assert waiting.match is not None
    await service.prove(login.id, secret, waiting.match.answer, app="shop")

    again = await service.prove(login.id, secret, waiting.match.answer, app="shop")

    assert again.state is State.CONFIRMED


async def test_old_phone_leaves_the_login_pending(
    make_login_service: MakeService, store: StateBackend
) -> None:
    service = make_login_service(apps=[NUMBER])
    new_login = await begin(service)

    with pytest.raises(PhoneTooOld, match="update the app"):
        await service.scan(new_login.login.scene, ALICE)

    stored = await store.logins.get(new_login.login.id)
    assert stored is not None
    assert stored.state is State.PENDING
    login, _ = await service.scan(new_login.login.scene, ALICE, NEW_PHONE)
    assert login.match is not None


@pytest.mark.parametrize(
    ("app", "is_requested"), [(NUMBER, False), (SHOP, True)], ids=["app", "request"]
)
async def test_old_phone_is_refused_without_the_policy(
    make_login_service: MakeService,
    store: StateBackend,
    clock: Clock,
    app: object,
    is_requested: bool,
) -> None:
    policy = FixedPolicy(Decision.ALLOW)
    service = make_login_service(apps=[app], policy=policy)
    login = a_login(clock, is_match_requested=is_requested)
    await store.logins.add(login)

    with pytest.raises(PhoneTooOld):
        await service.scan(login.scene, ALICE)

    assert policy.cases == []


async def test_repeated_scans_by_old_phone_are_rarely_judged(
    make_login_service: MakeService,
) -> None:
    """A challenged login stays pending, so an old phone can scan it again and again."""
    policy = FixedPolicy(Decision.CHALLENGE)
    service = make_login_service(policy=policy)
    new_login = await begin(service)
    for _ in range(JUDGED_SCANS_PER_MINUTE):
        with pytest.raises(PhoneTooOld):
            await service.scan(new_login.login.scene, ALICE)

    with pytest.raises(RateLimited):
        await service.scan(new_login.login.scene, ALICE, NEW_PHONE)

    assert len(policy.cases) == JUDGED_SCANS_PER_MINUTE
    login, _ = await service.scan(new_login.login.scene, BOB, NEW_PHONE)
    assert login.phone == BOB


@pytest.mark.parametrize(
    ("app", "decision", "kind"),
    [
        (SHOP, Decision.ALLOW, None),
        (SHOP, Decision.CHALLENGE, "number"),
        (NUMBER, Decision.ALLOW, "number"),
        (CODE, Decision.ALLOW, "code"),
        (CODE, Decision.CHALLENGE, "code"),
    ],
    ids=str,
)
async def test_decision_and_app_decide_the_match(
    make_login_service: MakeService, app: object, decision: Decision, kind: str | None
) -> None:
    service = make_login_service(apps=[app], policy=FixedPolicy(decision))
    new_login = await begin(service)

    login, _ = await service.scan(new_login.login.scene, ALICE, NEW_PHONE)

    assert (login.match and login.match.kind) == kind


async def test_denied_scan_ends_the_login(
    make_login_service: MakeService, store: StateBackend
) -> None:
    service = make_login_service(policy=FixedPolicy(Decision.DENY, "new country"))
    new_login = await begin(service)

    with pytest.raises(LoginRefused):
        await service.scan(new_login.login.scene, ALICE)

    login = await store.logins.get(new_login.login.id)
    assert login is not None
    assert (login.state, login.reason) == (State.DENIED, "policy: new country")
    assert current_event(login) == REFUSED_EVENT
    with pytest.raises(UnknownScene):
        await service.scan(new_login.login.scene, ALICE)


async def test_policy_judges_the_first_scan_only(make_login_service: MakeService) -> None:
    policy = FixedPolicy(Decision.ALLOW)
    service = make_login_service(policy=policy)
    new_login = await begin(service)

    await service.scan(new_login.login.scene, ALICE, NEW_PHONE._replace(how=1047))
    await service.scan(new_login.login.scene, ALICE)
    with pytest.raises(AlreadyScanned):
        await service.scan(new_login.login.scene, BOB)

    [case] = policy.cases
    assert case == PolicyCase(
        app="shop",
        login_id=new_login.login.id,
        began_at=new_login.login.began_at,
        browser=FIREFOX,
        known=False,
        phone_ip="192.0.2.9",
        how=1047,
        identity=ALICE.identity,
    )


async def test_third_other_person_ends_the_login(make_login_service: MakeService) -> None:
    service = make_login_service()
    new_login = await begin(service)
    counted = CODES_SHARED.labels("shop")._value.get()
    await service.scan(new_login.login.scene, ALICE)

    for number in range(3):
        with pytest.raises(AlreadyScanned):
            await service.scan(new_login.login.scene, other_person(number))

    with pytest.raises(NotAllowed):
        await service.confirm(new_login.login.id, ALICE)
    login = await service.get(new_login.login.id)
    assert login is not None
    assert (login.state, login.reason) == (State.DENIED, "shared")
    assert CODES_SHARED.labels("shop")._value.get() == counted + 1


async def test_one_other_person_is_counted_once(make_login_service: MakeService) -> None:
    service = make_login_service()
    new_login = await begin(service)
    await service.scan(new_login.login.scene, ALICE)

    for _ in range(9):
        with pytest.raises(AlreadyScanned):
            await service.scan(new_login.login.scene, BOB)

    assert (await service.confirm(new_login.login.id, ALICE)).state is State.CONFIRMED


async def test_scans_after_the_confirm_are_not_counted(make_login_service: MakeService) -> None:
    service = make_login_service()
    new_login = await begin(service)
    await service.scan(new_login.login.scene, ALICE)
    await service.confirm(new_login.login.id, ALICE)

    for number in range(5):
        with pytest.raises(AlreadyScanned):
            await service.scan(new_login.login.scene, other_person(number))

    assert (await service.redeem(new_login.login.id, new_login.secret, app="shop")).token


async def test_raced_scans_end_a_shared_login_once(
    make_login_service: MakeService, trail: RecordingAuditLog
) -> None:
    service = make_login_service()
    new_login = await begin(service)

    await asyncio.gather(
        *(service.scan(new_login.login.scene, other_person(number)) for number in range(20)),
        return_exceptions=True,
    )

    assert [state for _, state, _ in trail.ends] == [State.DENIED]


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [("192.0.2.7", True), ("198.51.100.7", False), ("2001:db8::1", True), ("unknown", False)],
)
async def test_login_begins_in_the_networks_of_its_app(
    make_login_service: MakeService, address: str, is_allowed: bool
) -> None:
    app = replace(SHOP, networks=("192.0.2.0/24", "2001:db8::/32"))
    service = make_login_service(apps=[app])

    try:
        await service.begin("shop", Browser(address, ""), has_socket=True)
        was_allowed = True
    except NetworkNotAllowed:
        was_allowed = False

    assert was_allowed is is_allowed


async def test_notices_name_a_match_without_its_answer(
    make_login_service: MakeService, bus: Bus
) -> None:
    service = make_login_service(apps=[NUMBER])
    async with bus.listen("one") as notices:
        login, _, _ = await scanned(service)

        assert await anext(notices) == Notice("login-scanned-match", login.id)


def test_right_choice_is_equally_often_at_each_position() -> None:
    matches = [draw_match("number") for _ in range(6_000)]

    positions = Counter(match.choices.index(match.answer) for match in matches)

    # The standard deviation is 37: a uniform choice fails once in 10 000 000 runs.
    assert all(abs(positions[at] - 2_000) < 200 for at in range(CHOICES))
    assert all(len(set(match.choices)) == CHOICES for match in matches)


def test_guessed_number_is_right_once_in_three_times() -> None:
    matches = [draw_match("number") for _ in range(10_000)]

    right = sum(match.is_right(match.choices[0]) for match in matches)

    assert abs(right - 10_000 / CHOICES) < 270  # 5.7 standard deviations


def test_digits_are_drawn_evenly() -> None:
    drawn = [draw_digits() for _ in range(20_000)]

    assert {len(digits) for digits in drawn} == {DIGITS}
    for place in range(DIGITS):
        found = Counter(digits[place] for digits in drawn)
        # The standard deviation is 42: even draws fail once in 10 000 000 runs.
        assert all(abs(found[digit] - 2_000) < 300 for digit in "0123456789")


def test_guesses_of_a_code_find_three_of_ten_thousand() -> None:
    """Any three guesses find three answers, so no choice of guesses is better."""
    guesses = ["0000", "1234", "9999", "1111"]

    found = sum(is_guessed(f"{answer:04}", guesses) for answer in range(10**DIGITS))

    assert found == TRIES_MAX == 3


def is_guessed(answer: str, guesses: Sequence[str]) -> bool:
    """Send guesses until the login is confirmed or denied."""
    match = Match(kind="code", answer=answer)
    login = a_login(Clock(), state=State.SCANNED, phone=ALICE, subject="alice", match=match)
    for guess in guesses:
        if login.state is State.SCANNED:
            login = apply(login, Act.PROVE, now=login.began_at, answer=guess)
    return login.state is State.CONFIRMED


def test_empty_answer_is_never_right() -> None:
    assert not Match(kind="code").is_right("")


def test_browser_is_shown_nothing_before_the_scan(clock: Clock) -> None:
    login = Login(
        id="a", scene="b", secret_hash=b"", app="shop", browser=FIREFOX, began_at=0, expires_at=1
    )

    assert match_fields(login) == {}

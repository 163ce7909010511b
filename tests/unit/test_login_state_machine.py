"""Random orders of acts by several phones and browsers. The security rules always hold.

The apps need no match, a match by number or one by code, and a policy decides at random.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import jwt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from broker.apps.registry import AppRegistry
from broker.bus.memory import MemoryBus
from broker.directories.open import OpenDirectory
from broker.errors import InvalidRequest
from broker.identity.model import Identity, Phone
from broker.login.errors import LoginError
from broker.login.match import Match
from broker.login.model import Browser, Decision, State, Verdict
from broker.login.ports import PolicyCase
from broker.login.scanner import ScanningPhone
from broker.login.service import NewLogin
from broker.login.services import LoginDependencies, create_login_services
from broker.state import open_state
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile
from tests.support.builders import (
    NO_REQUESTS,
    OTHER,
    SHOP,
    Clock,
    LoginMethods,
    RecordingAuditLog,
    codes_of,
)

APPS = [SHOP, replace(OTHER, match="number"), replace(OTHER, id="bank", match="code")]
PEOPLE = ["alice", "alice", "alice", "alice", "bob", "carol"]
"""The people with phones. Most acts are of one person, so that logins proceed."""

INSTANCES = ["one", "two"]
folder = tempfile.TemporaryDirectory()


T = TypeVar("T")


class RandomPolicy:
    """A policy whose next decision a rule sets."""

    def __init__(self) -> None:
        self.decision = Decision.ALLOW

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def judge(self, case: PolicyCase) -> Verdict:
        return Verdict(self.decision)


class Logins(RuleBasedStateMachine):
    """Records the first phone that scanned, the phone that confirmed, and the tokens.

    needs: the kind of match that each scanned login needs. right: logins with a right answer.
    """

    new_login: Bundle[NewLogin] = Bundle("new_logins")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        store = open_state("memory://", self.clock)
        bus = MemoryBus()
        apps = AppRegistry(APPS)
        self.policy = RandomPolicy()
        self.services = [
            LoginMethods(
                create_login_services(
                    LoginDependencies(
                        logins=store.logins,
                        user_codes=store.user_codes,
                        bus=bus,
                        apps=apps,
                        audit_log=RecordingAuditLog(),
                        codes=codes_of(store, apps),
                        directory=OpenDirectory(),
                        profiles=OpenDirectory(),
                        requests=NO_REQUESTS,
                        policy=self.policy,
                        issuer=TokenIssuer(
                            file=SigningKeyFile(Path(folder.name) / "keys.json"),
                            algorithm="ES256",
                            issuer="https://login.example",
                            lifetime=600,
                            host_clock=self.clock,
                        ),
                        clock=self.clock,
                        instance=instance,
                        lifetime=120,
                        register_lifetime=600,
                        scans_max=2,
                    )
                )
            )
            for instance in INSTANCES
        ]
        self.scanned_by: dict[str, Phone] = {}
        self.confirmed_by: dict[str, Phone] = {}
        self.tokens: dict[str, list[str]] = {}
        self.needs: dict[str, str] = {}
        self.right: set[str] = set()

    def teardown(self) -> None:
        self.loop.close()

    def begun(self, at: int, app: str) -> NewLogin:
        new_login = self.run(self.services[at].begin(app, Browser("::1", "x"), has_socket=True))
        assert new_login is not None
        return new_login

    def run(self, act: Awaitable[T]) -> T | None:
        try:
            return self.loop.run_until_complete(act)
        except (LoginError, InvalidRequest):
            return None

    instances = st.integers(0, len(INSTANCES) - 1)
    people = st.sampled_from(PEOPLE)
    abilities = st.sampled_from([True, True, False])
    apps = st.sampled_from(["", "", "", "", "", "shop"])
    app_ids = st.sampled_from([app.id for app in APPS])

    @rule(decision=st.sampled_from([*Decision, Decision.ALLOW]))
    def decide(self, decision: Decision) -> None:
        self.policy.decision = decision

    @rule(target=new_login, at=instances, app=app_ids)
    def begin(self, at: int, app: str) -> NewLogin:
        return self.begun(at, app)

    @rule(target=new_login, at=instances, app=app_ids)
    def begin_and_scan(self, at: int, app: str) -> NewLogin:
        new_login = self.begun(at, app)
        self.scan(new_login, at, "alice", "", knows_match=True)
        return new_login

    @rule(new_login=new_login, at=instances, person=people, app=apps, knows_match=abilities)
    def scan(self, new_login: NewLogin, at: int, person: str, app: str, knows_match: bool) -> None:
        login_id, phone = new_login.login.id, self.phone_of(new_login, person, app)
        device = ScanningPhone(knows_match=knows_match)
        scanned = self.run(self.services[at].scan(new_login.login.scene, phone, device))
        if scanned is None:
            if login_id in self.confirmed_by:
                login = self.run(self.services[at].get(login_id))
                assert login is None or login.state is not State.DENIED  # None after its retention
            return
        assert self.scanned_by.setdefault(login_id, phone) == phone
        assert phone.app == new_login.login.app
        match = scanned.login.match
        if match is not None:
            assert knows_match or login_id in self.needs
            assert self.needs.setdefault(login_id, match.kind) == match.kind

    @rule(new_login=new_login, at=instances, person=people, app=apps, choice=st.integers(0, 3))
    def confirm(self, new_login: NewLogin, at: int, person: str, app: str, choice: int) -> None:
        login_id, phone = new_login.login.id, self.phone_of(new_login, person, app)
        match = self.match_of(new_login)
        choices = [*(match.choices if match else ()), None]
        answer = choices[min(choice, len(choices) - 1)]
        confirmed = self.run(self.services[at].confirm(login_id, phone, answer))
        if confirmed is None:
            return
        assert self.scanned_by.get(login_id) == phone
        if self.needs.get(login_id) == "code":
            assert confirmed.state is not State.CONFIRMED or login_id in self.right
            return
        if self.needs.get(login_id) == "number" and login_id not in self.confirmed_by:
            assert match is not None
            assert answer == match.answer
            self.right.add(login_id)
        self.confirmed_by[login_id] = phone

    @rule(new_login=new_login, at=instances, is_right=st.booleans())
    def prove(self, new_login: NewLogin, at: int, is_right: bool) -> None:
        login_id = new_login.login.id
        match = self.match_of(new_login)
        digits = match.answer if match is not None and is_right else "wrong"
        proved = self.run(
            self.services[at].prove(login_id, new_login.secret, digits, app=new_login.login.app)
        )
        if proved and proved.state is State.CONFIRMED and self.needs.get(login_id) == "code":
            assert is_right or login_id in self.right
            self.right.add(login_id)
            self.confirmed_by[login_id] = self.scanned_by[login_id]

    def phone_of(self, new_login: NewLogin, person: str, app: str) -> Phone:
        return Phone(app or new_login.login.app, Identity("pretend", person))

    def match_of(self, new_login: NewLogin) -> Match | None:
        login = self.run(self.services[0].get(new_login.login.id))
        return None if login is None else login.match

    @rule(new_login=new_login, at=instances, person=people, app=apps)
    def deny(self, new_login: NewLogin, at: int, person: str, app: str) -> None:
        phone = self.phone_of(new_login, person, app)
        if self.run(self.services[at].deny(new_login.login.id, phone)):
            assert new_login.login.id not in self.confirmed_by

    @rule(new_login=new_login, at=instances, other=new_login, honest=st.booleans())
    def redeem(self, new_login: NewLogin, at: int, other: NewLogin, honest: bool) -> None:
        secret = new_login.secret if honest else other.secret
        redeemed = self.run(
            self.services[at].redeem(new_login.login.id, secret, app=new_login.login.app)
        )
        if redeemed:
            assert secret == new_login.secret
            self.tokens.setdefault(new_login.login.id, []).append(redeemed.token.access_token)

    @rule(new_login=new_login, at=instances)
    def resume(self, new_login: NewLogin, at: int) -> None:
        resumed = self.run(
            self.services[at].resume(new_login.login.id, new_login.secret, app=new_login.login.app)
        )
        if resumed and resumed.state is State.CONFIRMED:
            assert new_login.login.id in self.confirmed_by

    @rule(new_login=new_login, at=instances)
    def cancel(self, new_login: NewLogin, at: int) -> None:
        self.run(
            self.services[at].cancel(new_login.login.id, new_login.secret, app=new_login.login.app)
        )

    @rule(seconds=st.sampled_from([1, 1, 1, 59, 61, 121]))
    def wait(self, seconds: int) -> None:
        self.clock.time += seconds

    @invariant()
    def token_follows_one_confirm_by_the_scanning_phone(self) -> None:
        for login_id, tokens in self.tokens.items():
            claims, *others = [
                jwt.decode(token, options={"verify_signature": False}) for token in tokens
            ]
            assert all(other == claims for other in others)
            phone = self.confirmed_by[login_id]
            assert login_id not in self.needs or login_id in self.right
            assert claims["amr"] == (["scan", "match"] if login_id in self.needs else ["scan"])
            assert phone == self.scanned_by[login_id]
            assert claims["sub"] == f"pretend:{phone.identity.id}"
            assert claims["aud"] == phone.app


TestLogins = Logins.TestCase
TestLogins.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)

"""Random orders of acts by several phones and browsers. The security rules always hold."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import jwt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from broker.apps.registry import AppRegistry
from broker.bus.memory import MemoryBus
from broker.directories.open import OpenDirectory
from broker.identity.model import Identity, Phone
from broker.login.errors import LoginError
from broker.login.model import Browser, State
from broker.login.service import NewLogin
from broker.login.services import create_login_services
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

PHONES = [
    Phone(app, Identity("pretend", name)) for app in ("shop", "other") for name in ("alice", "bob")
]
INSTANCES = ["one", "two"]
folder = tempfile.TemporaryDirectory()


class Logins(RuleBasedStateMachine):
    """Records three facts: the first phone that scanned, the phone that confirmed, the tokens."""

    new_login: Bundle[NewLogin] = Bundle("new_logins")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        store = open_state("memory://", self.clock)
        bus = MemoryBus()
        apps = AppRegistry([SHOP, OTHER])
        self.services = [
            LoginMethods(
                create_login_services(
                    logins=store.logins,
                    bus=bus,
                    apps=apps,
                    audit_log=RecordingAuditLog(),
                    codes=codes_of(store, apps),
                    directory=OpenDirectory(),
                    requests=NO_REQUESTS,
                    policy=None,
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
                    scans_max=3,
                )
            )
            for instance in INSTANCES
        ]
        self.scanned_by: dict[str, Phone] = {}
        self.confirmed_by: dict[str, Phone] = {}
        self.tokens: dict[str, list[str]] = {}

    def teardown(self) -> None:
        self.loop.close()

    def run(self, act):  # type: ignore[no-untyped-def]
        try:
            return self.loop.run_until_complete(act)
        except LoginError:
            return None

    instances = st.integers(0, len(INSTANCES) - 1)
    phones = st.sampled_from(PHONES)

    @rule(target=new_login, at=instances, app=st.sampled_from(["shop", "other"]))
    def begin(self, at: int, app: str) -> NewLogin:
        return self.run(self.services[at].begin(app, Browser("::1", "x"), has_socket=True))

    @rule(new_login=new_login, at=instances, phone=phones)
    def scan(self, new_login: NewLogin, at: int, phone: Phone) -> None:
        if self.run(self.services[at].scan(new_login.login.scene, phone)):
            assert self.scanned_by.setdefault(new_login.login.id, phone) == phone
            assert phone.app == new_login.login.app

    @rule(new_login=new_login, at=instances, phone=phones)
    def confirm(self, new_login: NewLogin, at: int, phone: Phone) -> None:
        if self.run(self.services[at].confirm(new_login.login.id, phone)):
            assert self.scanned_by.get(new_login.login.id) == phone
            self.confirmed_by[new_login.login.id] = phone

    @rule(new_login=new_login, at=instances, phone=phones)
    def deny(self, new_login: NewLogin, at: int, phone: Phone) -> None:
        if self.run(self.services[at].deny(new_login.login.id, phone)):
            assert self.scanned_by.get(new_login.login.id) == phone
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

    @rule(seconds=st.sampled_from([1, 59, 61, 121]))
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
            assert phone == self.scanned_by[login_id]
            assert claims["sub"] == f"pretend:{phone.identity.id}"
            assert claims["aud"] == phone.app


TestLogins = Logins.TestCase
TestLogins.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)

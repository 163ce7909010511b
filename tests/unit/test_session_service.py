"""Opening, checking and ending sessions."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping

import pytest
from msgspec.structs import replace

from broker.apps.registry import AppRegistry
from broker.errors import Unavailable
from broker.identity.errors import InvalidProof, UserDataDecryptionFailed
from broker.identity.model import Identity, Phone
from broker.identity.ports import IdentityProof
from broker.identity.ports import SecretText as Secret
from broker.infrastructure.crypto.sealing import EncryptedSecret, SecretBox
from broker.providers.pretend import PretendProvider
from broker.sessions.errors import InvalidSession, SigningUnsupported
from broker.sessions.model import Session, SessionToken
from broker.sessions.service import SessionService
from broker.state import StateBackend
from tests.support.builders import OTHER, SHOP, Clock, FixedDirectory, all_pretend

KEY = base64.b64encode(bytes(16)).decode()


class Signing:
    """Simple signatures of a provider."""

    def is_signed(self, raw_data: str, signature: str, session_key: Secret) -> bool:
        return signature == raw_data + session_key.reveal()

    def decrypt(self, encrypted_data: str, iv: str, session_key: Secret) -> Mapping[str, object]:
        if iv != session_key.reveal():
            raise UserDataDecryptionFailed
        return {"plain": encrypted_data}


class SigningProvider(PretendProvider):
    user_data = Signing()

    async def identify(self, js_code: str) -> IdentityProof:
        proof = await super().identify(js_code)
        return proof if proof.identity.id == "keyless" else proof._replace(session_key=Secret(KEY))


Make = Callable[..., SessionService]


@pytest.fixture
def make(store: StateBackend, clock: Clock) -> Make:
    def make(
        *,
        idle: int = 100,
        provider: type[PretendProvider] = PretendProvider,
        seal_key: bytes = bytes(32),
    ) -> SessionService:
        secret_box = SecretBox(lambda: [seal_key])
        secret_box.load()
        apps = AppRegistry([SHOP, OTHER])
        return SessionService(
            store=store.sessions,
            providers=all_pretend(apps, provider),
            directory=FixedDirectory("alice"),
            apps=apps,
            secret_box=secret_box,
            clock=clock,
            lifetime=1_000,
            idle_timeout=idle,
        )

    return make


@pytest.fixture
def sessions(make: Make) -> SessionService:
    return make()


async def log_in(sessions: SessionService, name: str = "alice") -> tuple[Session, SessionToken]:
    opened = await sessions.open(SHOP, f"pretend:{name}")
    return opened.session, SessionToken(opened.session.id, opened.skey)


async def test_valid_js_code_opens_a_session(sessions: SessionService) -> None:
    session, token = await log_in(sessions)

    assert await sessions.check(token) == session
    assert session.phone == Phone("shop", Identity("pretend", "alice"))
    assert (len(token.id), len(token.skey)) == (22, 43)


async def test_skey_is_stored_as_hash_only(sessions: SessionService, store: StateBackend) -> None:
    _, token = await log_in(sessions)

    stored = await store.sessions.get(token.id)

    assert token.skey not in repr(stored)


async def test_person_has_sessions_on_two_phones(sessions: SessionService) -> None:
    first, second = [(await log_in(sessions))[1] for _ in range(2)]

    for token in (first, second):
        assert await sessions.check(token)


async def test_invalid_sessions_are_refused_with_one_response(
    sessions: SessionService, clock: Clock
) -> None:
    _, ended = await log_in(sessions)
    clock.time += 100
    signed_out, gone = await log_in(sessions)
    await sessions.end(signed_out)
    _, live = await log_in(sessions)

    answers = []
    for token, app in [
        (SessionToken("unknown", live.skey), SHOP),
        (SessionToken(live.id, ended.skey), SHOP),
        (SessionToken(live.id, ""), SHOP),
        (SessionToken("unknown", ""), SHOP),
        (ended, SHOP),
        (gone, SHOP),
        (live, OTHER),
    ]:
        with pytest.raises(InvalidSession) as refusal:
            await sessions.check(token, app)
        answers.append(refusal.value.body())

    assert all(answer == answers[0] for answer in answers)
    assert await sessions.check(live, SHOP)


@pytest.mark.parametrize(
    "js_code", ["alice", "pretend:", "wechat:alice", "pretend:a b", "pretend:a\n", "x" * 256]
)
async def test_invalid_js_code_opens_no_session(sessions: SessionService, js_code: str) -> None:
    with pytest.raises(InvalidProof):
        await sessions.open(SHOP, js_code)


# --- lifetime


async def test_use_extends_a_session(sessions: SessionService, clock: Clock) -> None:
    _, used = await log_in(sessions)
    _, unused = await log_in(sessions)
    for _ in range(3):
        clock.time += 60
        session = await sessions.check(used)
        assert session.expires_at == clock() + 100

    with pytest.raises(InvalidSession):
        await sessions.check(unused)


async def test_use_does_not_extend_beyond_the_lifetime(
    sessions: SessionService, clock: Clock
) -> None:
    session, token = await log_in(sessions)
    for _ in range(19):
        clock.time += 50
        session = await sessions.check(token)
    clock.time += 49

    assert (await sessions.check(token)).expires_at == session.latest_end
    clock.time += 1
    with pytest.raises(InvalidSession):
        await sessions.check(token)


class CountingStore:
    """A session store that counts the calls of `extend`."""

    def __init__(self, store: StateBackend) -> None:
        self._sessions = store.sessions
        self.put, self.get, self.end = store.sessions.put, store.sessions.get, store.sessions.end
        self.written = 0

    async def extend(self, session: Session, expires_at: float) -> bool:
        self.written += 1
        return await self._sessions.extend(session, expires_at)


async def test_extension_is_stored_after_tenth_of_idle_timeout(
    store: StateBackend, make: Make, clock: Clock
) -> None:
    counting = CountingStore(store)
    sessions = make_over(counting, make)
    _, token = await log_in(sessions)
    for _ in range(100):
        clock.time += 1
        await sessions.check(token)

    assert counting.written == 10


async def test_extension_is_not_stored_without_idle_timeout(
    store: StateBackend, make: Make, clock: Clock
) -> None:
    counting = CountingStore(store)
    sessions = make_over(counting, make, idle=1_000)
    session, token = await log_in(sessions)
    clock.time += 999

    assert await sessions.check(token) == session
    assert counting.written == 0


def make_over(sessions: object, make: Make, **options: int) -> SessionService:
    made = make(**options)
    made._store = sessions  # type: ignore[assignment]
    return made


async def test_sign_out_during_a_use_ends_the_session(
    store: StateBackend, make: Make, clock: Clock
) -> None:
    class SignOutDuringUse(CountingStore):
        async def extend(self, session: Session, expires_at: float) -> bool:
            await self.end(session.phone, session.id)
            return await super().extend(session, expires_at)

    sessions = make_over(SignOutDuringUse(store), make)
    _, token = await log_in(sessions)
    clock.time += 50

    with pytest.raises(InvalidSession):
        await sessions.check(token)
    assert await store.sessions.get(token.id) is None


async def test_session_is_valid_if_extension_cannot_be_stored(
    store: StateBackend, make: Make, clock: Clock
) -> None:
    class ReadOnly(CountingStore):
        async def extend(self, session: Session, expires_at: float) -> bool:
            raise Unavailable

    sessions = make_over(ReadOnly(store), make)
    session, token = await log_in(sessions)
    clock.time += 50

    assert await sessions.check(token) == session


# --- sign-out


async def test_sign_out_ends_one_or_all_sessions(
    sessions: SessionService,
) -> None:
    (first, _), (_, second), (_, third) = [await log_in(sessions) for _ in range(3)]
    _, bobs = await log_in(sessions, "bob")

    assert await sessions.end(first) == 1
    session = await sessions.check(second)
    assert await sessions.end_all(session.phone) == 2
    for token in (second, third):
        with pytest.raises(InvalidSession):
            await sessions.check(token)
    assert await sessions.check(bobs)


async def test_sign_out_during_many_uses_leaves_no_session(
    sessions: SessionService, clock: Clock
) -> None:
    session, token = await log_in(sessions)
    clock.time += 50

    await asyncio.gather(
        *(sessions.check(token) for _ in range(20)),
        sessions.end(session),
        *(sessions.check(token) for _ in range(20)),
        return_exceptions=True,
    )

    with pytest.raises(InvalidSession):
        await sessions.check(token)


# --- subject and signatures


async def test_subject_comes_from_the_directory(sessions: SessionService) -> None:
    alice, _ = await log_in(sessions)
    unknown_session, _ = await log_in(sessions, "unknown")

    assert await sessions.subject(alice) == "user-alice"
    assert await sessions.subject(unknown_session) is None


async def test_signature_and_encryption_of_phone_are_verified(make: Make) -> None:
    sessions = make(provider=SigningProvider)
    _, token = await log_in(sessions)

    assert await sessions.is_signed(token, SHOP, "text", f"text{KEY}")
    assert not await sessions.is_signed(token, SHOP, "other", f"text{KEY}")
    assert await sessions.decrypt(token, SHOP, "text", KEY) == {"plain": "text"}
    with pytest.raises(UserDataDecryptionFailed):
        await sessions.decrypt(token, SHOP, "text", "wrong")
    for wrong, app in [(token, OTHER), (SessionToken(token.id, "wrong"), SHOP)]:
        with pytest.raises(InvalidSession):
            await sessions.is_signed(wrong, app, "text", f"text{KEY}")
        with pytest.raises(InvalidSession):
            await sessions.decrypt(wrong, app, "text", KEY)


@pytest.mark.parametrize(
    ("provider", "name"), [(PretendProvider, "alice"), (SigningProvider, "keyless")]
)
async def test_provider_without_session_key_supports_no_signatures(
    make: Make, provider: type[PretendProvider], name: str
) -> None:
    sessions = make(provider=provider)
    _, token = await log_in(sessions, name)

    with pytest.raises(SigningUnsupported):
        await sessions.is_signed(token, SHOP, "text", "text")
    with pytest.raises(SigningUnsupported):
        await sessions.decrypt(token, SHOP, "text", KEY)


async def test_session_key_cannot_be_decrypted_without_the_skey(
    make: Make, store: StateBackend
) -> None:
    _, token = await log_in(make(provider=SigningProvider))

    stored = await store.sessions.get(token.id)

    assert stored is not None
    assert stored.session_key is not None
    encrypted = EncryptedSecret(*stored.session_key)
    assert KEY.encode() not in encrypted.ciphertext
    assert str(encrypted.ciphertext) not in repr(stored)
    secret_box = SecretBox(lambda: [bytes(32)])
    secret_box.load()
    for skey in (None, "", token.skey[:-1]):
        with pytest.raises(Unavailable):
            secret_box.decrypt(encrypted, "shop", skey)


async def test_session_key_of_another_session_is_not_decrypted(
    make: Make, store: StateBackend
) -> None:
    sessions = make(provider=SigningProvider)
    session, token = await log_in(sessions)
    theirs, _ = await log_in(sessions, "bob")
    await store.sessions.put(replace(session, session_key=theirs.session_key))

    with pytest.raises(InvalidSession):
        await sessions.is_signed(token, SHOP, "text", f"text{KEY}")


async def test_session_is_valid_without_its_seal_key(
    make: Make,
) -> None:
    _, token = await log_in(make(provider=SigningProvider))
    elsewhere = make(provider=SigningProvider, seal_key=b"x" * 32)

    assert await elsewhere.check(token)
    with pytest.raises(InvalidSession):
        await elsewhere.is_signed(token, SHOP, "text", f"text{KEY}")

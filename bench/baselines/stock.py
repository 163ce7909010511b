"""python-socketio on aiohttp, with its Redis manager between servers and redis-py for logins.

REDIS_URL: the Redis of all servers. CODE_URL: the image of every code.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import jwt
import socketio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import BlockingConnectionPool, Redis

from bench.baselines import HERE

LIFETIME = 900
TOKEN_LIFETIME = 600
NAMESPACE = "/login"

Fields = dict[str, Any]
Notify = Callable[[str, str, Fields], Awaitable[None]]


class Refused(Exception):
    """An act is refused, with an HTTP status and an error word."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class StoredLogin(NamedTuple):
    version: int
    login: Fields


class Store:
    """Logins and sessions in Redis, in the format of store.js."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add, self._by_scene, self._swap = (
            redis.register_script((HERE / name).read_text())
            for name in ("add.lua", "by_scene.lua", "swap.lua")
        )

    async def add(self, login: Fields) -> None:
        keys = [f"login:{login['id']}", f"scene:{login['scene']}"]
        await self._add(keys, [_encode(0, login), login["id"], LIFETIME * 1000])

    async def get(self, login_id: str) -> StoredLogin:
        return _decode(await self._redis.get(f"login:{login_id}"))

    async def by_scene(self, scene: str) -> StoredLogin:
        return _decode(await self._by_scene([f"scene:{scene}"], ["login:"]))

    async def swap(self, found: StoredLogin, **changes: Any) -> StoredLogin:
        """Store the changed login. Raises ConnectionRefused if the stored version differs."""
        after = StoredLogin(found.version + 1, found.login | changes)
        version, encoded = f"{found.version} ", _encode(*after)
        stored = await self._swap(
            [f"login:{after.login['id']}"], [version, encoded, LIFETIME * 1000]
        )
        if not stored:
            raise Refused(409, "invalid_state")
        return after

    async def put_session(self, session_id: str, session: Fields) -> None:
        await self._redis.set(f"session:{session_id}", json.dumps(session), ex=LIFETIME)

    async def session(self, session_id: str) -> Fields:
        stored = await self._redis.get(f"session:{session_id}")
        if stored is None:
            raise Refused(401, "invalid_session")
        session: Fields = json.loads(stored)
        return session


class LoginService:
    """The acts of a login, with the same durable changes as the broker."""

    def __init__(self, *, store: Store, notify: Notify, code_url: str) -> None:
        self._store = store
        self._notify = notify
        self._code_url = code_url
        self._key = ec.generate_private_key(ec.SECP256R1())

    async def open_session(self, fields: Fields) -> Fields:
        session_id, skey = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
        session = {"skey_hash": _hash(skey), "openid": fields["js_code"]}
        await self._store.put_session(session_id, session)
        return {"id": session_id, "skey": skey, "expires_in": LIFETIME}

    async def begin(self, browser: tuple[str, str]) -> Fields:
        login_id, scene, secret = (secrets.token_urlsafe(length) for length in (16, 24, 32))
        now = time.time()
        await self._store.add(
            {
                "id": login_id,
                "scene": scene,
                "secret_hash": _hash(secret),
                "app": "default",
                "browser": browser,
                "began_at": now,
                "expires_at": now + LIFETIME,
                "state": "pending",
                "phone": None,
                "subject": None,
                "confirmed_at": None,
                "redeemed_at": None,
            }
        )
        code = {"code_url": self._code_url, "expires_in": LIFETIME, "interval": 5}
        return {"login_id": login_id, "scene": scene, "secret": secret, **code}

    async def scan(self, fields: Fields, phone: str) -> Fields:
        found = await self._store.by_scene(fields["scene"])
        _require(found.login["state"] == "pending", 409, "already_scanned")
        login = (await self._store.swap(found, state="scanned", phone=phone)).login
        await self._notify(login["id"], "login-scanned", {"login_id": login["id"]})
        browser = dict(zip(("ip", "user_agent"), login["browser"], strict=True))
        return {"login_id": login["id"], "state": "scanned", "browser": browser}

    async def confirm(self, fields: Fields, phone: str) -> Fields:
        found = await self._store.get(fields["login_id"])
        _require(found.login["state"] == "scanned", 409, "invalid_state")
        _require(found.login["phone"] == phone, 403, "access_denied")
        await self._store.swap(found, state="confirmed", subject=phone, confirmed_at=time.time())
        await self._notify(fields["login_id"], "login-confirmed", {"login_id": fields["login_id"]})
        return {"login_id": fields["login_id"], "state": "confirmed"}

    async def redeem(self, fields: Fields) -> Fields:
        found = await self._store.get(fields["login_id"])
        _require(_matches(found.login["secret_hash"], fields["secret"]), 400, "invalid_grant")
        _require(found.login["state"] == "confirmed", 400, "authorization_pending")
        redeemed = await self._store.swap(found, state="redeemed", redeemed_at=time.time())
        return {
            "access_token": self._token(redeemed.login),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME,
            "subject": redeemed.login["subject"],
        }

    async def phone(self, authorization: str) -> str:
        """The openid of the session in `Bearer <id>.<skey>`."""
        session_id, _, skey = authorization.removeprefix("Bearer ").partition(".")
        session = await self._store.session(session_id)
        _require(_matches(session["skey_hash"], skey), 401, "invalid_session")
        return str(session["openid"])

    def _token(self, login: Fields) -> str:
        now = int(time.time())
        claims = {
            "iss": "http://127.0.0.1",
            "sub": login["subject"],
            "aud": login["app"],
            "client_id": login["app"],
            "iat": now,
            "exp": now + TOKEN_LIFETIME,
            "jti": login["id"],
            "auth_time": int(login["confirmed_at"]),
            "amr": ["scan"],
            "idp": "pretend",
        }
        return jwt.encode(claims, self._key, "ES256", headers={"typ": "at+jwt", "kid": "1"})


def attach_browsers(server: Any, service: LoginService) -> None:
    """Handle the events of browsers. A browser joins the room of its login id."""

    async def begin(sid: str, fields: Fields) -> Fields:
        environ = server.get_environ(sid, NAMESPACE)
        begun = await service.begin((environ["REMOTE_ADDR"], environ.get("HTTP_USER_AGENT", "")))
        await server.enter_room(sid, begun["login_id"], namespace=NAMESPACE)
        return begun

    async def redeem(sid: str, fields: Fields) -> Fields:
        try:
            return await service.redeem(fields)
        except Refused as error:
            return {"error": str(error)}

    server.on("begin", begin, namespace=NAMESPACE)
    server.on("redeem", redeem, namespace=NAMESPACE)


def phone_routes(service: LoginService) -> list[web.RouteDef]:
    acts: Mapping[str, Callable[[Fields, str], Awaitable[Fields]]] = {
        "scan": service.scan,
        "confirm": service.confirm,
    }

    async def open_session(request: web.Request) -> web.Response:
        return web.json_response(await service.open_session(await request.json()))

    async def act(request: web.Request) -> web.Response:
        try:
            phone = await service.phone(request.headers.get("Authorization", ""))
            answer = await acts[request.match_info["act"]](await request.json(), phone)
        except Refused as error:
            return web.json_response({"error": str(error)}, status=error.status)
        return web.json_response(answer)

    return [web.post("/phone/session", open_session), web.post("/phone/{act}", act)]


def application(redis_url: str, code_url: str) -> web.Application:
    # The default pool raises an error for the 101st concurrent command. This pool waits.
    redis = Redis(connection_pool=BlockingConnectionPool.from_url(redis_url, max_connections=100))
    server: Any = socketio.AsyncServer(
        async_mode="aiohttp",
        client_manager=socketio.AsyncRedisManager(redis_url),
        transports=["websocket"],
    )

    async def notify(room: str, event: str, payload: Fields) -> None:
        await server.emit(event, payload, room=room, namespace=NAMESPACE)

    service = LoginService(store=Store(redis), notify=notify, code_url=code_url)
    attach_browsers(server, service)
    app = web.Application()
    app.add_routes(phone_routes(service))
    server.attach(app)

    async def close_redis(app: web.Application) -> AsyncIterator[None]:
        yield
        await redis.aclose()

    app.cleanup_ctx.append(close_redis)
    return app


async def main() -> None:
    """Serve until the process is stopped."""
    runner = web.AppRunner(
        application(os.environ["REDIS_URL"], os.environ["CODE_URL"]), access_log=None
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def _require(condition: bool, status: int, error: str) -> None:
    if not condition:
        raise Refused(status, error)


def _matches(hashed: str, secret: str) -> bool:
    return hmac.compare_digest(hashed, _hash(secret))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _encode(version: int, login: Fields) -> str:
    return f"{version} {json.dumps(login, separators=(',', ':'))}"


def _decode(stored: bytes | str | None) -> StoredLogin:
    if not isinstance(stored, bytes):
        raise Refused(400, "invalid_grant")
    version, _, text = stored.decode().partition(" ")
    return StoredLogin(int(version), json.loads(text))


if __name__ == "__main__":
    asyncio.run(main())

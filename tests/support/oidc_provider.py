"""Providers for relying parties: one instance, and several behind nginx with Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from broker.tokens.keys import SigningKeyFile
from broker.tokens.settings import TokenSettings
from deploy import nginx
from deploy.processes import listening_process
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import StartBroker
from tests.support.clients import Payload
from tests.support.environment import free_port, need
from tests.support.nginx import nginx_before
from tests.support.oidc_browser import Page, ScanBrowser, new_person
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually


class Provider(NamedTuple):
    """The provider that relying parties use.

    issuer: its URL for browsers and apps. phones: the URL for phones.
    admin: the client of an admin port. instances: the URL of each instance.
    key_file: of all instances.
    """

    issuer: str
    phones: str
    admin: Admin
    instances: tuple[str, ...]
    key_file: Path

    async def add_app(self, app_id: str, **fields: object) -> str:
        """Add an app and return its secret; empty for a public app."""
        body = {"id": app_id, "name": app_id.title(), "phone_app": "default", **fields}
        answer = await self.admin.ask("POST", "/apps", body)
        assert answer.status == 201, answer.body
        await eventually(lambda: self._is_known(app_id))
        if fields.get("client_type") == "public":
            return ""
        rotated = await self.admin.ask("POST", f"/apps/{app_id}/rotate-secret")
        secret = str(rotated.body["api_secret"])
        await eventually(lambda: self._is_secret(app_id, secret))
        return secret

    async def rotate_keys(self, *, ago: float = 0.0) -> None:
        """Return when every instance signs with keys that it did not use before.

        ago: seconds since the rotation. After more than the lifetime of a token, the instances
        refuse the access tokens that they signed with the earlier keys.
        """
        file = SigningKeyFile(self.key_file)
        rings = file.load()
        assert rings is not None
        before = [await _key_ids(url) for url in self.instances]
        now = time.time() - ago
        file.save(rings.rotated(now=now, token_lifetime=600, hint_lifetime=600, algorithm="ES256"))

        async def have_other_keys() -> bool:
            after = [await _key_ids(url) for url in self.instances]
            return all(old != new for old, new in zip(before, after, strict=True))

        await eventually(have_other_keys)

    async def _is_known(self, app_id: str) -> bool:
        """Return whether every instance has read the app."""
        answers = [await self._post(url, "device_authorization", app_id) for url in self.instances]
        return 401 not in answers

    async def _is_secret(self, app_id: str, secret: str) -> bool:
        answers = [
            await self._post(url, "introspect", app_id, client_secret=secret, token="x")
            for url in self.instances
        ]
        return 401 not in answers

    async def _post(self, url: str, path: str, app_id: str, **fields: str) -> int:
        form = {"client_id": app_id, **fields}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/oauth/{path}", data=form) as response,
        ):
            return response.status

    async def update_app(self, app_id: str, **fields: object) -> Payload:
        answer = await self.admin.ask("PATCH", f"/apps/{app_id}", fields)
        assert answer.status == 200, answer.body
        return dict(answer.body)


async def _key_ids(url: str) -> set[str]:
    """Return the ids of the published keys. A rotation adds the one after the next."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/.well-known/jwks.json") as response,
    ):
        return {key["kid"] for key in (await response.json())["keys"]}


async def sign_in_after_rotation(
    provider: Provider, url: str, *, secure: tuple[str, ...] = ()
) -> Page:
    """Rotate the keys, sign a new person in at `url` in another browser, and return the page."""
    await provider.rotate_keys()
    async with ScanBrowser(provider.issuer, phones=provider.phones, secure=secure) as browser:
        return await browser.sign_in(url, new_person())


COMMON: Payload = {"admin_token": TOKEN, "webhooks_private": True}

APP_CALLS = "token|userinfo|introspect|revoke|par"


@asynccontextmanager
async def one_instance(
    start_broker: StartBroker, folder: Path, engines: Engines | None = None
) -> AsyncIterator[Provider]:
    broker = await start_broker(**COMMON)
    async with Admin(broker.admin) as admin:
        key_file = broker.settings[TokenSettings].key_file
        yield Provider(broker.url, broker.url, admin, (broker.url,), key_file)


def shared_settings(folder: Path, engines: Engines, port: int) -> Payload:
    """Return the settings of all instances behind nginx on `port`, with an empty Redis."""
    engines.empty("redis")
    return {
        **COMMON,
        "state_url": engines.url("redis"),
        "public_url": f"http://127.0.0.1:{port}",
        "key_file": folder / "keys.json",
    }


@asynccontextmanager
async def three_instances(
    start_broker: StartBroker, folder: Path, engines: Engines
) -> AsyncIterator[Provider]:
    """The browser, the app and the phone each use another instance."""
    port = free_port()
    shared = shared_settings(folder, engines, port)
    brokers = [
        await start_broker(**shared, instance=name) for name in ("browsers", "apps", "phones")
    ]
    async with (
        Admin(brokers[1].admin) as admin,
        nginx_by_path(folder / "nginx", port, *(one.url for one in brokers[:2])),
    ):
        instances = tuple(broker.url for broker in brokers)
        issuer = f"http://127.0.0.1:{port}"
        yield Provider(issuer, brokers[2].url, admin, instances, folder / "keys.json")


@asynccontextmanager
async def two_instances_in_turn(
    start_broker: StartBroker, folder: Path, engines: Engines
) -> AsyncIterator[Provider]:
    """Any request goes to any instance, by nginx with the configuration of `deploy/`.

    At the end, both instances must have answered requests to the provider.
    """
    port = free_port()
    shared = {**shared_settings(folder, engines, port), "trusted_proxies": ["127.0.0.1"]}
    brokers = [await start_broker(**shared, instance=name) for name in ("first", "second")]
    instances = tuple(broker.url for broker in brokers)
    async with Admin(brokers[1].admin) as admin:
        async with nginx_before(instances, folder / "nginx", port) as issuer:
            yield Provider(issuer, issuer, admin, instances, folder / "keys.json")
        served = upstreams(folder / "nginx" / "access.log", "/oauth/")
        assert served >= {url.removeprefix("http://") for url in instances}, served


def upstreams(access_log: Path, path: str) -> set[str]:
    """Return the addresses that answered requests whose path begins with `path`."""
    lines = [line for line in access_log.read_text().splitlines() if f" {path}" in line]
    return {line.split()[-2] for line in lines}


@asynccontextmanager
async def nginx_by_path(folder: Path, port: int, browsers: str, apps: str) -> AsyncIterator[None]:
    """Serve both instances on one port: the calls of apps at `apps`, all others at `browsers`."""
    need("nginx")
    folder.mkdir()
    folder.chmod(0o711)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in nginx.TEMPORARY_FOLDERS)
    upgrade = (
        "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;"
        " proxy_set_header Connection $connection_upgrade; proxy_set_header Host $http_host;"
    )
    conf = folder / "nginx.conf"
    conf.write_text(
        f"""events {{}}
http {{ {temporary} access_log off;
map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
server {{ listen 127.0.0.1:{port}; {upgrade}
location ~ ^/oauth/({APP_CALLS})$ {{ proxy_pass {apps}; }}
location / {{ proxy_pass {browsers}; }} }} }}
"""
    )
    async with listening_process("nginx", nginx.command(conf), folder, port):
        yield


LAYOUTS = {"one-instance": one_instance, "three-instances": three_instances}

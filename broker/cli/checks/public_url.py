"""Checks of the public URL: name, TLS, WebSocket upgrade, client address."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from broker.apps.settings import AppSettings
from broker.cli.checks.model import (
    TIMEOUT,
    Failed,
    Installation,
    Skipped,
    Warned,
    reason_of,
)
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.settings_sources import PREFIX
from broker.infrastructure.urls import url_host

SECONDS_PER_HOUR, SECONDS_PER_DAY = 3_600, 86_400

EXPIRY_WARNING_DAYS = 14
"""As in the alert ScanLoginCertSoon."""

EXPIRY_WARNING_SHARE = 0.25
"""Of the lifetime of a certificate. Caddy renews a certificate when a third is left; those of its
own CA live for 12 hours."""

CORRECT_URL = f"correct {PREFIX}PUBLIC_URL, or let the proxy pass requests to the broker"

UPSTREAM = "start the broker, and let the proxy connect to its address and port"

STATUS_FIXES: Mapping[int, str] = {502: UPSTREAM, 503: UPSTREAM, 504: UPSTREAM}
"""What to do about a status of /health/live, instead of CORRECT_URL."""

OTHER_BROKER = "start the broker with these settings; its log has the reason"

UNKNOWN_CA = (
    "serve a certificate of a CA that browsers trust; for a trial, name the file of your CA in "
    "SSL_CERT_FILE"
)

OTHER_NAME = f"serve a certificate for the host in {PREFIX}PUBLIC_URL"

CERTIFICATE_FIXES: Mapping[int, str] = {
    10: "renew the certificate",
    18: UNKNOWN_CA,
    19: UNKNOWN_CA,
    62: OTHER_NAME,
    64: OTHER_NAME,
}
"""What to do, by OpenSSL's code of the error (X509_V_ERR_…)."""


async def check_name(installation: Installation) -> str:
    host = installation.public_url.hostname or ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Failed(f"{host} does not resolve: {error.strerror}") from None
    addresses = sorted({str(row[4][0]) for row in found})
    if not any(map(is_own_address, addresses)):
        raise Warned(
            f"{host} is {', '.join(addresses)}, which no interface of this machine has",
            "nothing, if a load balancer, NAT or another machine with the proxy has this address; "
            "else correct the DNS record",
        )
    return f"{host} is {', '.join(addresses)}"


def is_own_address(address: str) -> bool:
    """Return whether an interface of this machine has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe, suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


async def check_answer(installation: Installation) -> str:
    url = f"{installation.server.public_url}/health/live"
    try:
        async with installation.http.get(url, ssl=trust(installation), allow_redirects=False) as r:
            status, location = r.status, r.headers.get("Location")
    except aiohttp.ClientConnectorCertificateError:
        raise Skipped("needs the check public URL: certificate") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Failed(f"GET {url}: {reason_of(error)}") from None
    if status != 200:
        target = f", to {location}" if location else ""
        raise Failed(
            f"GET {url} has status {status}{target}", STATUS_FIXES.get(status, CORRECT_URL)
        )
    return f"GET {url} has status 200"


def trust(installation: Installation) -> ssl.SSLContext | bool:
    """Return the certificates of this machine; SSL_CERT_FILE replaces them."""
    return ssl.create_default_context() if installation.public_url.scheme == "https" else True


async def check_certificate(installation: Installation) -> str:
    url = installation.public_url
    if url.scheme != "https":
        raise Skipped("the public URL is not https")
    host = url.hostname or ""
    try:
        async with asyncio.timeout(TIMEOUT / 2):
            _, writer = await asyncio.open_connection(
                host, url.port or 443, ssl=ssl.create_default_context(), server_hostname=host
            )
    except ssl.SSLCertVerificationError as error:
        raise Failed(
            f"the certificate of {host} is refused: {error.verify_message}",
            CERTIFICATE_FIXES.get(error.verify_code),
        ) from None
    except OSError:  # no connection, no TLS, or no answer in time
        raise Skipped("needs the check public URL: answer") from None
    begin, end = (
        ssl.cert_time_to_seconds(writer.get_extra_info("peercert")[name])
        for name in ("notBefore", "notAfter")
    )
    writer.close()
    remaining = end - time.time()
    text = f"the certificate of {host} expires in {_duration(remaining)}"
    if remaining < min(EXPIRY_WARNING_DAYS * SECONDS_PER_DAY, EXPIRY_WARNING_SHARE * (end - begin)):
        raise Warned(text)
    return text


def _duration(seconds: float) -> str:
    if seconds < 2 * SECONDS_PER_DAY:
        return f"{seconds / SECONDS_PER_HOUR:.0f} hours"
    return f"{seconds / SECONDS_PER_DAY:.0f} days"


async def check_websocket(installation: Installation) -> str:
    try:
        async with _connect(installation) as websocket:
            opened = await websocket.receive_str()
    except (aiohttp.ClientError, TypeError) as error:
        raise Failed(f"the WebSocket at /socket.io/ does not open: {reason_of(error)}") from None
    if not opened.startswith("0"):
        raise Failed("the WebSocket at /socket.io/ is not the broker's")
    return "the WebSocket at /socket.io/ opens"


def _connect(installation: Installation) -> Any:
    """Return a WebSocket of Engine.IO, from the first Origin of the settings."""
    return installation.http.ws_connect(
        f"{installation.server.public_url}/socket.io/?EIO=4&transport=websocket",
        origin=installation.settings[AppSettings].origins[0],
        ssl=trust(installation),
    )


async def check_client_address(installation: Installation) -> str:
    """Begin a login, and read its address at the admin port."""
    server = installation.server
    if server.admin_token is None:
        raise Skipped(f"needs {PREFIX}ADMIN_TOKEN")
    async with _connect(installation) as websocket:
        own = websocket.get_extra_info("sockname")[0]
        login_id = await _begin_login(websocket)
        seen = await _address_of(installation, login_id)
    if seen != own and _is_address_of_proxy(installation, seen):
        raise Failed(f"the broker sees the address of a proxy, {seen}, instead of {own}")
    return f"the broker sees this machine as {seen}"


def _is_address_of_proxy(installation: Installation, seen: str) -> bool:
    """Return False for another address of this machine, which NAT may have given it."""
    address = ipaddress.ip_address(seen)
    proxies = installation.settings[APISettings].trusted_proxies
    return address.is_loopback or any(address in ipaddress.ip_network(one) for one in proxies)


async def _begin_login(websocket: aiohttp.ClientWebSocketResponse) -> str:
    """Return the id of a new login. Socket.IO protocol 5: CONNECT, EVENT with an ack."""
    await websocket.receive_str()
    await websocket.send_str("40/login,{}")
    connected = await websocket.receive_str()
    if not connected.startswith("40"):
        raise Failed(f"the broker refuses the socket: {connected[:200]}", OTHER_BROKER)
    await websocket.send_str('42/login,0["begin",{}]')
    while not (answer := await websocket.receive_str()).startswith("43"):
        pass
    [login] = json.loads(answer[answer.index("[") :])
    if "login_id" not in login:
        raise Failed(f"no login begins: {login.get('error_description')}", OTHER_BROKER)
    return str(login["login_id"])


async def _address_of(installation: Installation, login_id: str) -> str:
    """Return the address of a waiting login."""
    server = installation.server
    token = server.admin_token.get_secret_value() if server.admin_token else ""
    host = server.admin_host.partition(",")[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    async with installation.http.get(
        f"http://{url_host(host)}:{server.admin_port}/logins?limit=999",
        headers={"Authorization": f"Bearer {token}"},
    ) as response:
        if response.status != 200:
            raise Failed(
                f"GET /logins at the admin port has status {response.status}",
                f"use the {PREFIX}ADMIN_TOKEN of the broker",
            )
        logins = (await response.json())["logins"]
    found = [str(login["ip"]) for login in logins if login["login_id"] == login_id]
    if not found:
        raise Failed(
            "the admin port does not list the login that has begun at the public URL",
            f"let {PREFIX}PUBLIC_URL and the admin port be those of the same brokers",
        )
    return found[0]

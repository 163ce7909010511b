"""A business server for mini programs with `wafer2-client-sdk`, without MySQL.

    APP_SECRET=… WAFER_KEY=… python -m web_demo.wafer2_server --app red --wafer-host biz.example

It uses the broker's sessions and Wafer's tunnel calls. A later request of the client carries only
`X-WX-Skey`, which contains the session's id and its skey.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from .__main__ import parse_http_url, parse_port, url_of

Fields = dict[str, Any]


class Configuration(NamedTuple):
    """broker: its URL.  app, secret: of the app's own servers.

    host, key: the app's `wafer_host` and `wafer_key`.  url: of this server, for callbacks.
    """

    broker: str
    app: str
    secret: str
    host: str
    key: str
    url: str


class BusinessServer:
    """Signs users in, and sends each message of a tunnel back to its client."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._http: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        application = web.Application()
        application.on_cleanup.append(self._close)
        application.add_routes(
            [
                web.get("/login", self.login),
                web.get("/user", self.user),
                web.get("/tunnel", self.open_tunnel),
                web.post("/tunnel", self.receive),
            ]
        )
        return application

    async def login(self, request: web.Request) -> web.Response:
        opened = await self._call("/sessions", js_code=request.headers.get("X-WX-Code", ""))
        if "skey" not in opened:
            return web.json_response({"code": -1, "error": opened["error_description"]})
        session = {"id": opened["id"], "skey": opened["skey"]}
        user = {"openId": opened["openid"], **await self._profile(request, session)}
        skey = f"{session['id']}.{session['skey']}"
        data = {"userinfo": user, "skey": skey, "time": int(time.time())}
        return web.json_response({"code": 0, "data": data})

    async def user(self, request: web.Request) -> web.Response:
        session_id, _, skey = request.headers.get("X-WX-Skey", "").partition(".")
        checked = await self._call("/sessions/check", id=session_id, skey=skey)
        if "openid" not in checked:
            return web.json_response({"code": -1, "error": checked["error_description"]})
        return web.json_response({"code": 0, "data": {"openId": checked["openid"]}})

    async def open_tunnel(self, request: web.Request) -> web.Response:
        data = {"receiveUrl": f"{self._configuration.url}/tunnel", "protocolType": "wss"}
        answer = await self._signed_call("/get/wsurl", data)
        if answer["code"] != 0:  # the client's SDK throws without `data`
            return web.json_response({"code": 1, "data": {}, "error": answer["message"]})
        return web.json_response({"code": 0, "data": json.loads(answer["data"])})

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not hmac.compare_digest(self._sign(body["data"]), body["signature"]):
            return web.json_response({"code": 9003, "message": "wrong signature"}, status=400)
        packet = json.loads(body["data"])
        if packet["type"] == "message":
            echo = {"type": "message", "tunnelIds": [packet["tunnelId"]]}
            await self._signed_call("/ws/push", [{**echo, "content": packet["content"]}])
        return web.json_response({"code": 0, "message": "ok"})

    async def _profile(self, request: web.Request, session: Fields) -> Fields:
        """Return the profile that WeChat has encrypted; nothing if the client sends none."""
        encrypted, iv = (request.headers.get(f"X-WX-{name}") for name in ("Encrypted-Data", "IV"))
        if not encrypted or not iv:
            return {}
        opened = await self._call("/sessions/decrypt", **session, encrypted_data=encrypted, iv=iv)
        return dict(opened.get("data", {}))

    async def _call(self, path: str, **body: str) -> Fields:
        login = aiohttp.encode_basic_auth(self._configuration.app, self._configuration.secret)
        url, headers = self._configuration.broker + path, {"Authorization": login}
        return await self._post(url, body, headers=headers)

    async def _signed_call(self, path: str, value: object) -> Fields:
        data, own = json.dumps(value), self._configuration
        client_id = hashlib.md5(own.host.encode(), usedforsecurity=False).hexdigest()
        body = {"data": data, "tcId": client_id, "tcKey": own.key, "signature": self._sign(data)}
        return await self._post(f"{own.broker}/wafer/{own.app}{path}", body)

    def _sign(self, data: str) -> str:
        return hashlib.sha1((data + self._configuration.key).encode()).hexdigest()  # noqa: S324

    async def _post(self, url: str, body: Fields, **options: Any) -> Fields:
        self._http = self._http or aiohttp.ClientSession()
        async with self._http.post(url, json=body, **options) as response:
            return dict(await response.json())

    async def _close(self, application: web.Application) -> None:
        if self._http is not None:
            await self._http.close()


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="web_demo.wafer2_server",
        description="Serve a business server for mini programs with wafer2-client-sdk.",
        epilog="The environment variables APP_SECRET and WAFER_KEY contain the app's secret and "
        "its wafer_key.",
    )
    broker = os.environ.get("BROKER_URL", "http://127.0.0.1:8000")
    parser.add_argument("--broker", type=parse_http_url, default=broker, help="URL of the broker")
    parser.add_argument("--app", required=True, help="id of the app at the broker")
    parser.add_argument("--wafer-host", required=True, help="wafer_host of the app")
    parser.add_argument(
        "--url", type=parse_http_url, help="URL of this server, to which the broker sends callbacks"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=parse_port, default=8082)
    return parser.parse_args(arguments)


def read_configuration(arguments: argparse.Namespace) -> Configuration:
    secret, key = os.environ.get("APP_SECRET"), os.environ.get("WAFER_KEY")
    if not secret or not key:
        sys.exit(
            "wafer2_server: set APP_SECRET to the secret that `scan-login app rotate-secret "
            f"{arguments.app}` prints, and WAFER_KEY to the app's wafer_key"
        )
    own_url = arguments.url or url_of(arguments.host, arguments.port)
    return Configuration(
        broker=arguments.broker.rstrip("/"),
        app=arguments.app,
        secret=secret,
        host=arguments.wafer_host,
        key=key,
        url=own_url.rstrip("/"),
    )


def main() -> None:
    arguments = parse_arguments()
    configuration = read_configuration(arguments)
    address = f"{url_of(arguments.host, arguments.port)}/"
    try:
        web.run_app(
            BusinessServer(configuration).application(),
            host=arguments.host,
            port=arguments.port,
            print=lambda *_: print(
                f"wafer2_server: serves {address} (callbacks to {configuration.url}/tunnel)",
                flush=True,
            ),
        )
    except OSError as error:
        sys.exit(f"wafer2_server: cannot listen on {address}: {error.strerror or error}")


if __name__ == "__main__":
    main()

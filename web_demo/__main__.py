"""The command `python -m web_demo`, which serves the example site."""

import argparse
import errno
import os
import sys
from urllib.parse import urlsplit

from aiohttp import web

from .game.server import GameOptions
from .oidc import OIDCClient
from .site import build_site


def parse_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError("expected a number from 1 to 65535")
    return int(text)


def parse_http_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL; expected http://… or https://…")
    return text


def url_of(host: str, port: int) -> str:
    """Return the URL of a server. An IPv6 address is in brackets (RFC 3986)."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="web_demo", description="Serve an example site with scan login."
    )
    broker = os.environ.get("BROKER_URL", "http://127.0.0.1:8000")
    parser.add_argument("--broker", type=parse_http_url, default=broker, help="URL of the broker")
    parser.add_argument("--issuer", help="issuer of the tokens, if it is not the broker's URL")
    parser.add_argument("--app", default="default", help="id of this site's app at the broker")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=parse_port, default=8080)
    parser.add_argument(
        "--site-url", type=parse_http_url, help="URL of this site, if it is behind a proxy"
    )
    parser.add_argument(
        "--oidc",
        metavar="CLIENT_ID",
        help="sign in with OpenID Connect as this client; its secret is in OIDC_CLIENT_SECRET",
    )
    parser.add_argument(
        "--phone-url", type=parse_http_url, help="URL of a phone page, for development"
    )
    parser.add_argument(
        "--chat-room", metavar="ROOM", help="serve a chat in this room; the app needs `rooms`"
    )
    parser.add_argument(
        "--game",
        metavar="APP",
        help="serve a game as the backend of this app, whose tunnel URL is /game/callbacks of "
        "this site; its secrets are in GAME_SECRET and GAME_WEBHOOK_SECRET",
    )
    return parser.parse_args()


def oidc_client(arguments: argparse.Namespace, site_url: str) -> OIDCClient:
    secret = os.environ.get("OIDC_CLIENT_SECRET")
    if not secret:
        sys.exit("web_demo: set OIDC_CLIENT_SECRET to the secret that `scan-login app add` printed")
    return OIDCClient(
        issuer=arguments.issuer or arguments.broker,
        client_id=arguments.oidc,
        client_secret=secret,
        site_url=site_url,
    )


def game_options(app: str) -> GameOptions:
    names = ("GAME_SECRET", "GAME_WEBHOOK_SECRET")
    secret, webhook_secret = (os.environ.get(name, "") for name in names)
    if not secret or not webhook_secret:
        sys.exit(
            "web_demo: set GAME_SECRET and GAME_WEBHOOK_SECRET to what `scan-login app "
            f"rotate-secret {app}` and `scan-login app rotate-webhook-secret {app}` print"
        )
    return GameOptions(app=app, secret=secret, webhook_secret=webhook_secret)


def main() -> None:
    arguments = parse_arguments()
    own_url = arguments.site_url or url_of(arguments.host, arguments.port)
    site = build_site(
        broker_url=arguments.broker,
        app=arguments.app,
        phone_url=arguments.phone_url,
        issuer=arguments.issuer,
        site_url=arguments.site_url,
        oidc=oidc_client(arguments, own_url.rstrip("/")) if arguments.oidc else None,
        chat_room=arguments.chat_room,
        game=game_options(arguments.game) if arguments.game else None,
    )
    address = f"{url_of(arguments.host, arguments.port)}/"
    try:
        web.run_app(
            site,
            host=arguments.host,
            port=arguments.port,
            print=lambda *_: print(
                f"web_demo: open {address} (broker {arguments.broker})", flush=True
            ),
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"web_demo: port {arguments.port} is in use; choose another with --port")
        sys.exit(f"web_demo: cannot listen on {address}: {error.strerror or error}")


if __name__ == "__main__":
    main()

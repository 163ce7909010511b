"""The files that `scan-login init` writes."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from broker.cli.init_proxies import proxy_values
from broker.cli.init_questions import COMPOSE_REDIS, Answers, is_public
from broker.cli.oidc_products import PLACEHOLDER_PATTERN
from broker.infrastructure.settings_sources import variable

SETTINGS_FILE = "scan-login.env"

SUBNET, PROXY_ADDRESS = "172.29.0.0/24", "172.29.0.2"
"""The network of Compose, and the address of the proxy in it."""

PROXY_FILES = {"caddy": "Caddyfile", "nginx": "nginx.conf"}


class GeneratedFile(NamedTuple):
    """mode: as of chmod."""

    name: str
    text: str
    mode: int = 0o644


def generate(answers: Answers, settings: Mapping[str, str], *, program: str) -> list[GeneratedFile]:
    """Return the files for these answers.

    settings: of the broker, by name.
    program: path of the command scan-login.
    """
    values = {**_values(answers), "program": program}
    generated = [
        GeneratedFile(SETTINGS_FILE, _settings_text(settings), 0o600),
        GeneratedFile("login.html", fill("login.html", values)),
    ]
    if answers["proxy"] != "none":
        name = PROXY_FILES[answers["proxy"]]
        generated.append(GeneratedFile(name, fill(name, values)))
    if answers["run_by"] == "compose":
        generated.append(GeneratedFile("compose.yaml", _compose(answers, values)))
    else:
        generated.append(GeneratedFile("scan-login.service", fill("scan-login.service", values)))
    return generated


def fill(name: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders replaced. `@@` is an `@`."""
    template = files("broker.cli").joinpath(f"init_templates/{name}").read_text("utf-8")
    parts = template.split("@@")
    return "@".join(PLACEHOLDER_PATTERN.sub(lambda found: values[found[1]], one) for one in parts)


def public_url(answers: Answers) -> str:
    is_local = answers["proxy"] == "none" and not is_public(answers)
    return f"http://{answers['host']}:8000" if is_local else f"https://{answers['host']}"


def settings_for(answers: Answers) -> dict[str, str]:
    """Return the settings, by name."""
    settings = {
        "public_url": public_url(answers),
        "app_name": answers["app_name"],
        "origins": answers["origin"],
        "admin_token": secrets.token_urlsafe(32),
        "provider": answers["provider"],
    }
    if answers["provider"] == "wechat":
        settings["wechat_appid"] = answers["wechat_appid"]
        settings["wechat_secret"] = answers["wechat_secret"]
    elif is_public(answers) or answers["run_by"] == "compose":
        settings["allow_pretend"] = "true"  # in a container, the broker listens on all addresses
    return {**settings, **_state(answers), **_users(answers), **_network(answers)}


def _state(answers: Answers) -> dict[str, str]:
    if answers["state"] == "memory":
        return {}
    return {"state_url": answers["redis_url"]}


def _users(answers: Answers) -> dict[str, str]:
    if answers["users"] != "webhook":
        return {"directory": answers["users"]}
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return {"directory": answers["webhook_url"], "directory_secret": f"whsec_{key}"}


def _network(answers: Answers) -> dict[str, str]:
    is_proxied = answers["proxy"] != "none" or is_public(answers)
    if answers["run_by"] == "compose":
        # Without a proxy in this file, requests come from the address of the host in the network.
        proxy = PROXY_ADDRESS if answers["proxy"] != "none" else "172.29.0.1"
        listen = {"host": "0.0.0.0", "admin_host": "0.0.0.0"}  # noqa: S104
        return {**listen, **({"trusted_proxies": proxy} if is_proxied else {})}
    return {"trusted_proxies": "127.0.0.1"} if is_proxied else {}


def _settings_text(settings: Mapping[str, str]) -> str:
    """Return the settings as systemd, Compose and shells read them."""
    return "".join(f"{variable(name)}='{value}'\n" for name, value in settings.items())


def _values(answers: Answers) -> dict[str, str]:
    upstream = "broker:8000" if answers["run_by"] == "compose" else "127.0.0.1:8000"
    return {
        "host": answers["host"],
        "upstream": upstream,
        "public_url": public_url(answers),
        "subnet": SUBNET,
        "proxy_address": PROXY_ADDRESS,
        **proxy_values(answers),
    }


def _compose(answers: Answers, values: Mapping[str, str]) -> str:
    services = ["redis"] if answers.get("redis_url") == COMPOSE_REDIS else []
    services += [answers["proxy"]] if answers["proxy"] != "none" else []
    volumes = ["broker", *(name for name in services if name != "nginx")]
    port = "" if answers["proxy"] != "none" else "      - 127.0.0.1:8000:8000\n"
    return fill(
        "compose.yaml",
        {
            **values,
            "ports": port,
            "services": "".join(fill(f"compose-{name}.yaml", values) for name in services),
            "volumes": "\n".join(f"  {name}:" for name in volumes),
        },
    )

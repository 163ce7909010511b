"""Checks of the values of the settings."""

from __future__ import annotations

from broker.cli.checks.model import Failed, Installation, Skipped, Warned
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.settings_sources import PREFIX
from broker.providers.settings import ProviderSettings


async def check_values(installation: Installation) -> str:
    if installation.mistakes:
        raise Failed("; ".join(installation.mistakes))
    if not installation.found.values:
        raise Warned(
            "no setting is set, and the defaults are checked",
            "load the settings of the service first, such as: set -a; . /etc/scan-login/env",
        )
    return "no mistakes"


async def check_names(installation: Installation) -> str:
    if installation.found.unknown:
        raise Warned("; ".join(installation.found.unknown))
    return "all names are known"


async def check_pretend(installation: Installation) -> str:
    hosts = installation.server.reachable_hosts()
    provider = installation.settings[ProviderSettings].provider
    if provider == "pretend" and hosts:
        raise Warned(f"anyone who reaches {hosts[0]} can log in as anyone")
    return f"the provider is {provider}"


async def check_trusted_proxies(installation: Installation) -> str:
    """A public URL with another port than the broker's is that of a proxy."""
    url, server = installation.public_url, installation.server
    proxies = installation.settings[APISettings].trusted_proxies
    if is_loopback(url.hostname or "") and url.scheme == "http":
        raise Skipped("the public URL is on loopback")
    is_proxied = url.scheme == "https" or url.port != server.port
    if is_proxied and not proxies:
        raise Warned(
            "a proxy is in front of the broker, and its header is not trusted: all browsers "
            "count as one address",
        )
    return f"{PREFIX}TRUSTED_PROXIES is {', '.join(proxies) or 'empty'}"

"""The proxy of a new installation: its addresses and its certificate."""

from __future__ import annotations

import re
from collections.abc import Mapping

from broker.cli.init_questions import Answers, is_public

NOT_PUBLIC = re.compile(r"[^.]+|.*\.(localhost|local|test|internal|home\.arpa)|[\d.]+")
"""Hosts that are not public names, as in the rules for HSTS."""

PUBLIC_CADDY = """\
# Caddy in front of the broker: it gets and renews the certificate of the host name, which must
# resolve to this machine, and ports 80 and 443 must be reachable. SCAN_LOGIN_TRUSTED_PROXIES of
# the broker is the address of this Caddy."""

PRIVATE_CADDY = """\
# Caddy in front of the broker. Its own CA issues the certificate, because the host is not a public
# name. Browsers warn until they trust this CA. SCAN_LOGIN_TRUSTED_PROXIES of the broker is the
# address of this Caddy."""

SERVER_NAME_OPTION = """\
	# Clients send no server name for an IP address.
	default_sni {host}

"""

OWN_CA = "\ttls internal\n"

LOOPBACK_BIND = """\
	# Only this machine reaches the broker.
	bind 127.0.0.1
"""


def has_public_name(answers: Answers) -> bool:
    """Return whether certbot and Caddy get a certificate for the host from a public CA."""
    return not NOT_PUBLIC.fullmatch(answers["host"])


def is_address(answers: Answers) -> bool:
    return re.fullmatch(r"[\d.]+", answers["host"]) is not None


def certificate_folder(answers: Answers) -> str:
    """Return the folder of the certificate of nginx."""
    name = answers["host"]
    return f"/etc/letsencrypt/live/{name}" if has_public_name(answers) else "/etc/nginx/tls"


def proxy_values(answers: Answers) -> Mapping[str, str]:
    """Return the placeholders of the proxies' templates.

    A proxy for a loopback host listens on loopback. In a container, the published ports do that.
    """
    loopback = "" if is_public(answers) else "127.0.0.1:"
    is_bound = bool(loopback) and answers["run_by"] == "systemd"
    is_named = has_public_name(answers)
    option = SERVER_NAME_OPTION.format(host=answers["host"])
    return {
        "published": loopback,
        "listen": loopback if is_bound else "",
        "certificate_folder": certificate_folder(answers),
        "certificate_mount": "/etc/letsencrypt" if is_named else "/etc/nginx/tls",
        "caddy_about": PUBLIC_CADDY if is_named else PRIVATE_CADDY,
        "caddy_options": option if is_address(answers) else "",
        "caddy_site": (LOOPBACK_BIND if is_bound else "") + ("" if is_named else OWN_CA),
    }

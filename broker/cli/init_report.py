"""The printed report of `scan-login init`: the files, the login page and the next commands."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from broker.cli.init_files import GeneratedFile, public_url
from broker.cli.init_proxies import has_public_name, is_address
from broker.cli.init_questions import Answers, is_public

INSTALL: Mapping[str, Sequence[str]] = {
    "systemd": (
        "sudo install -D -m 0640 {folder}/scan-login.env /etc/scan-login/env",
        "sudo cp {folder}/scan-login.service /etc/systemd/system/",
        "sudo systemctl enable --now scan-login",
    ),
    "compose": ("docker build -t scan-login FOLDER_OF_THE_SOURCES",),
}
"""Before the certificate and the proxy."""

CERTIFICATE: Mapping[tuple[str, bool], str] = {
    ("systemd", True): "sudo certbot certonly --webroot --webroot-path /var/www/html "
    "--deploy-hook 'systemctl reload nginx' -d {host}",
    ("compose", True): "sudo certbot certonly --standalone "
    '--pre-hook "docker compose --project-directory {folder} stop nginx" '
    '--post-hook "docker compose --project-directory {folder} start nginx || true" -d {host}',
    **dict.fromkeys(
        [("systemd", False), ("compose", False)],
        "sudo mkdir -p /etc/nginx/tls && sudo openssl req -x509 -newkey ec "
        "-pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN={host} "
        "-addext subjectAltName={kind}:{host} -keyout /etc/nginx/tls/privkey.pem "
        "-out /etc/nginx/tls/fullchain.pem",
    ),
}
"""The certificate of nginx, by program and by whether a public CA issues it."""

START_PROXY: Mapping[tuple[str, str], str] = {
    ("systemd", "caddy"): "sudo cp {folder}/Caddyfile /etc/caddy/ && sudo systemctl reload caddy",
    ("systemd", "nginx"): "sudo cp {folder}/nginx.conf /etc/nginx/conf.d/scan-login.conf && "
    "sudo nginx -t && sudo systemctl reload nginx",
}

RUN: Mapping[str, str] = {
    "systemd": "sudo sh -c 'cd /var/lib/scan-login && set -a && . /etc/scan-login/env && "
    "{program} {words}'",
    "compose": "docker compose --project-directory {folder} exec broker scan-login {words}",
}
"""A command of the broker, with its settings."""

TRUST: Mapping[tuple[str, str], Sequence[str]] = {
    ("systemd", "caddy"): ("sudo caddy trust",),
    ("systemd", "nginx"): (
        "sudo cp /etc/nginx/tls/fullchain.pem /usr/local/share/ca-certificates/scan-login.crt",
        "sudo update-ca-certificates",
    ),
    ("compose", "caddy"): (
        "docker compose --project-directory {folder} cp "
        "caddy:/data/caddy/pki/authorities/local/root.crt {folder}/root.crt",
        "curl --cacert {folder}/root.crt https://{host}/health/ready",
    ),
    ("compose", "nginx"): (
        "curl --cacert /etc/nginx/tls/fullchain.pem https://{host}/health/ready",
    ),
}
"""Commands that trust or check a certificate that no public CA has issued."""

HOMES = ("/home", "/root")
"""Folders that the systemd unit hides (ProtectHome)."""

HOME_NOTE = """\
The service cannot read this path, because systemd hides /home and /root from it:

  {path}

First create the virtual environment with the Python of the system, install the broker into it as
docs/install.md describes, and run init with /opt/scan-login/bin/scan-login:

  sudo /usr/bin/python3 -m venv --clear /opt/scan-login"""

OWN_PROXY_NOTE = """\
Your own proxy must terminate TLS for {url} and forward its requests to
127.0.0.1:8000. The broker accepts the addresses of browsers from it, because
SCAN_LOGIN_TRUSTED_PROXIES is {trusted}. docs/reverse-proxies.md describes what a proxy must do."""

CONTAINER_CHECK_NOTE = """\
In the container, `public URL: answer` and `public URL: certificate` fail, and other checks are
skipped: doctor does not reach the proxy there, or does not trust its certificate. The command curl
checks the proxy."""

WEBHOOK_NOTE = """\
Your site verifies the requests to its webhook with SCAN_LOGIN_DIRECTORY_SECRET of
{folder}/scan-login.env. Give the site this value; docs/users.md describes the webhook."""


def report(
    generated: Sequence[GeneratedFile],
    answers: Answers,
    settings: Mapping[str, str],
    *,
    folder: Path,
    program: str,
) -> str:
    """Return the text. settings: of the broker, by name. program: path of scan-login."""
    page = next(file.text for file in generated if file.name == "login.html")
    hidden = answers["run_by"] == "systemd" and path_in_a_home(program, sys.executable)
    places = {
        "folder": shlex.quote(str(folder)),
        "program": program,
        "host": answers["host"],
        "kind": "IP" if is_address(answers) else "DNS",
        "path": hidden,
        "url": public_url(answers),
        "trusted": settings.get("trusted_proxies"),
    }
    parts = [
        "\n".join(f"{folder / file.name}" for file in generated),
        f"The login page, for {answers['origin']}:\n\n{page}".rstrip(),
        *([HOME_NOTE.format(**places)] if hidden else []),
        *(part.format(**places) for part in next_steps(answers)),
    ]
    return "\n\n".join(parts)


def next_steps(answers: Answers) -> Iterator[str]:
    """Return paragraphs, with placeholders."""
    yield _commands("Start the broker:", start_commands(answers))
    if answers["proxy"] == "none" and is_public(answers):
        yield OWN_PROXY_NOTE
    yield _commands("Then check the installation:", check_commands(answers))
    if answers["run_by"] == "compose" and is_self_issued(answers):
        yield CONTAINER_CHECK_NOTE
    if answers["users"] == "webhook":
        yield WEBHOOK_NOTE
    if answers["users"] == "sql":
        acts = ("user add u-alice --name Alice", "user invite u-alice")
        yield _commands("Add and invite the first user:", [_run(answers, act) for act in acts])


def start_commands(answers: Answers) -> Iterator[str]:
    run_by, proxy = answers["run_by"], answers["proxy"]
    yield from INSTALL[run_by]
    if proxy == "nginx":
        yield CERTIFICATE[run_by, has_public_name(answers)]
    if run_by == "compose":
        yield "docker compose --project-directory {folder} up --wait"
    elif proxy != "none":
        yield START_PROXY[run_by, proxy]


def check_commands(answers: Answers) -> Sequence[str]:
    """Return the check after the commands that make this machine trust the certificate."""
    doctor = _run(answers, "doctor")
    trust = TRUST[answers["run_by"], answers["proxy"]] if is_self_issued(answers) else ()
    return (doctor, *trust) if answers["run_by"] == "compose" else (*trust, doctor)


def is_self_issued(answers: Answers) -> bool:
    """Return whether no public CA issues the certificate of the proxy."""
    return answers["proxy"] != "none" and not has_public_name(answers)


def path_in_a_home(*paths: str) -> str:
    """Return the first path, if possible with links resolved, that the unit hides, or ""."""
    forms = (form for path in paths for form in (os.path.realpath(path), path))
    return next((form for form in forms if any(map(Path(form).is_relative_to, HOMES))), "")


def _run(answers: Answers, words: str) -> str:
    return RUN[answers["run_by"]].replace("{words}", words)


def _commands(heading: str, commands: Sequence[str] | Iterator[str]) -> str:
    return "\n  ".join([f"{heading}\n", *commands])

"""`scan-login init`: every combination of answers, and the programs that read the files."""

from __future__ import annotations

import asyncio
import getpass
import io
import ipaddress
import itertools
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
import yaml
from typer.testing import CliRunner

from broker.cli.init_files import generate, settings_for
from broker.cli.init_questions import (
    COMPOSE_REDIS,
    QUESTIONS,
    InvalidAnswer,
    check_container_redis_url,
    check_host,
    read_answers,
)
from broker.cli.init_report import path_in_a_home, report
from broker.cli.main import command
from broker.infrastructure.api.settings import APISettings
from broker.settings import FIELDS, load_settings
from deploy import nginx
from deploy.processes import listening_process
from tests.support.builders import StartBroker
from tests.support.certificate import certificate
from tests.support.commands import LIMIT, call, serving
from tests.support.deployment import DEPLOY
from tests.support.environment import ROOT, free_port, need
from tests.support.logins import logs_in
from tests.support.servers.proxies import (
    CLIENT,
    local_tls,
    packaged_program,
    running_proxy,
)

PAGE = (ROOT / "docs" / "deploy.md").read_text()

INSTALLED = "/opt/scan-login/bin/scan-login"
"""The program of deploy/scan-login.service."""

PUBLIC, LOCAL = "login.example.com", "127.0.0.1"

APPSECRET = "0123456789abcdef" * 2

CHOICES = {
    "host": [PUBLIC, LOCAL],
    "provider": ["pretend", "wechat"],
    "run_by": ["systemd", "compose"],
    "state": ["memory", "redis"],
    "users": ["open", "sql", "webhook"],
    "proxy": ["caddy", "nginx", "none"],
}

OTHERS = {
    "wechat_appid": "wx0123456789abcdef",
    "wechat_secret": APPSECRET,
    "confirm_pretend": "yes",
    "redis_url": "redis://:p%40ss$word@127.0.0.1:6379/0",
    "webhook_url": "https://shop.example.com/hook",
    "app_name": "A shop #1",
    "origin": "https://shop.example.com",
}

DEFAULTS = {"run_by": "systemd", "state": "memory", "users": "open"}

COMBINATIONS = [
    dict(zip(CHOICES, words, strict=True)) for words in itertools.product(*CHOICES.values())
]


def write_answers(folder: Path, **answers: str) -> Path:
    """Write the answers, and the others that these need."""
    file = folder / "answers.toml"
    is_public = answers.get("host") == PUBLIC
    chosen = {"provider": "wechat" if is_public else "pretend", **DEFAULTS, **answers}
    unused = {
        "wechat_appid": chosen["provider"] != "wechat",
        "wechat_secret": chosen["provider"] != "wechat",
        "confirm_pretend": chosen["provider"] != "pretend" or not is_public,
        "redis_url": chosen["state"] != "redis" or chosen["run_by"] == "compose",
        "webhook_url": chosen["users"] != "webhook",
    }
    needed = {name: value for name, value in OTHERS.items() if not unused.get(name)}
    given = {**needed, **answers}
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    return file


def files_for(folder: Path, **chosen: str) -> dict[str, str]:
    """Return the text of each file for these answers."""
    answers = read_answers(write_answers(folder, **chosen))
    generated = generate(answers, settings_for(answers), program=INSTALLED)
    return {file.name: file.text for file in generated}


def variables_of(text: str) -> dict[str, str]:
    """Return the variables of a settings file, as a shell reads them."""
    return dict(word.split("=", 1) for word in shlex.split(text))


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=lambda chosen: "-".join(chosen.values()))
def test_every_combination_has_valid_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: Mapping[str, str]
) -> None:
    files = files_for(tmp_path, **chosen)

    for name, value in variables_of(files["scan-login.env"]).items():
        monkeypatch.setenv(name, value)
        assert name.removeprefix("SCAN_LOGIN_").lower() in FIELDS
    settings = load_settings()
    assert ("Caddyfile" in files) == (chosen["proxy"] == "caddy")
    assert ("nginx.conf" in files) == (chosen["proxy"] == "nginx")
    assert not any(re.search(r"@[a-z]\w*@", text) for text in files.values())
    if chosen["run_by"] == "compose":
        check_compose(files["compose.yaml"], settings[APISettings].trusted_proxies)
    else:
        assert files["scan-login.service"] == (DEPLOY / "scan-login.service").read_text()


def check_compose(text: str, trusted_proxies: tuple[str, ...]) -> None:
    """Check that a Compose file is consistent, and that the broker trusts its proxy."""
    content = yaml.safe_load(text)
    services, [network] = content["services"], content["networks"]["default"]["ipam"]["config"]
    mounted = {
        volume.split(":")[0] for one in services.values() for volume in one.get("volumes", [])
    }
    assert {name for name in mounted if not name.startswith((".", "/"))} == {*content["volumes"]}
    assert services["broker"]["env_file"] == "scan-login.env"
    for name in {"caddy", "nginx"} & services.keys():
        address = services[name]["networks"]["default"]["ipv4_address"]
        assert trusted_proxies == (address,)
        assert ipaddress.ip_address(address) in ipaddress.ip_network(network["subnet"])
        assert "127.0.0.1:8000:8000" not in services["broker"]["ports"]


@pytest.mark.parametrize(
    "chosen",
    [chosen for chosen in COMBINATIONS if chosen["host"] == LOCAL],
    ids=lambda chosen: "-".join(chosen.values()),
)
def test_loopback_host_is_reachable_on_loopback_only(
    tmp_path: Path, chosen: Mapping[str, str]
) -> None:
    files = files_for(tmp_path, **chosen)

    if chosen["run_by"] == "compose":
        services = yaml.safe_load(files["compose.yaml"])["services"].values()
        addresses = [port for one in services for port in one.get("ports", [])]
    elif chosen["proxy"] == "caddy":
        addresses = re.findall(r"^\tbind (.+)$", files["Caddyfile"], re.MULTILINE)
    elif chosen["proxy"] == "nginx":
        addresses = re.findall(r"listen (.+);", files["nginx.conf"])
    else:  # the address of the broker itself
        variables = variables_of(files["scan-login.env"])
        addresses = [variables.get("SCAN_LOGIN_HOST", FIELDS["host"].default)]
    assert addresses
    assert all(address.startswith(LOCAL) for address in addresses)


@pytest.mark.parametrize("proxy", ["caddy", "nginx"])
def test_compose_publishes_a_public_host_everywhere(tmp_path: Path, proxy: str) -> None:
    text = files_for(tmp_path, host=PUBLIC, run_by="compose", proxy=proxy)["compose.yaml"]

    services = yaml.safe_load(text)["services"]
    assert services[proxy]["ports"][:2] == ["80:80", "443:443"]
    assert all(port.startswith(LOCAL) for port in services["broker"]["ports"])


def test_compose_has_redis_unless_another_is_given(tmp_path: Path) -> None:
    given = "redis://redis.internal:6379/0"
    compose = {"host": PUBLIC, "run_by": "compose", "state": "redis"}

    own = files_for(tmp_path, **compose)
    other = files_for(tmp_path, **compose, redis_url=given)

    assert variables_of(own["scan-login.env"])["SCAN_LOGIN_STATE_URL"] == COMPOSE_REDIS
    assert "redis" in yaml.safe_load(own["compose.yaml"])["services"]
    assert variables_of(other["scan-login.env"])["SCAN_LOGIN_STATE_URL"] == given
    assert "redis" not in yaml.safe_load(other["compose.yaml"])["services"]


def test_caddyfile_is_the_shipped_one_for_the_host(tmp_path: Path) -> None:
    text = files_for(tmp_path, host=PUBLIC, proxy="caddy", provider="pretend")["Caddyfile"]

    shipped = (DEPLOY / "Caddyfile").read_text().replace("{$DOMAIN:login.example}", PUBLIC)
    shipped = shipped.replace("{$BROKERS:127.0.0.1:8000}", "127.0.0.1:8000")
    assert text.partition("\n{\n")[2] == shipped.partition("\n{\n")[2] != ""


@pytest.mark.parametrize("run_by", CHOICES["run_by"])
@pytest.mark.parametrize("host", CHOICES["host"])
def test_caddy_accepts_its_file(tmp_path: Path, host: str, run_by: str) -> None:
    text = files_for(tmp_path, host=host, run_by=run_by, proxy="caddy", provider="pretend")
    (tmp_path / "Caddyfile").write_text(text["Caddyfile"])

    done = subprocess.run(
        [packaged_program("caddy"), "validate", "--config", tmp_path / "Caddyfile"],
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )

    assert "Valid configuration" in done.stdout + done.stderr


async def test_caddy_serves_an_address_on_loopback_only(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    port, http_port = free_port(), free_port()
    url = f"https://{LOCAL}:{port}"
    broker = await start_broker(public_url=url, trusted_proxies=[LOCAL])
    text = files_for(tmp_path, host=LOCAL, proxy="caddy")["Caddyfile"]
    ports = f"admin off\n\tskip_install_trust\n\thttp_port {http_port}\n\thttps_port {port}\n"
    text = text.replace("\n{\n", f"\n{{\n\t{ports}", 1)
    text = text.replace(f"{LOCAL}:8000", broker.url.removeprefix("http://"))
    (tmp_path / "Caddyfile").write_text(text)
    command = [packaged_program("caddy"), "run", "--config", str(tmp_path / "Caddyfile")]

    async with running_proxy(command, tmp_path, port):
        tls = await local_tls(tmp_path, url)

        assert await logs_in(url, tls=tls)
        for closed in (port, http_port):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(CLIENT, closed)


def nginx_file(folder: Path, *, host: str = PUBLIC, port: int, http_port: int = 0) -> Path:
    """Write nginx.conf for the host, with `port` for TLS, a certificate and no broker."""
    text = files_for(folder, host=host, proxy="nginx", provider="pretend")["nginx.conf"]
    certificate(folder)
    tls = f"/etc/letsencrypt/live/{host}" if host == PUBLIC else "/etc/nginx/tls"
    changes = {
        f"{tls}/fullchain.pem": f"{folder}/cert.pem",
        f"{tls}/privkey.pem": f"{folder}/key.pem",
        "443 ssl;": f"{port} ssl;",
        "80;": f"{http_port or free_port()};",
        "127.0.0.1:8000": f"127.0.0.1:{free_port()}",
        "/var/www/html": str(folder),
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "site.conf").write_text(text)
    paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in nginx.TEMPORARY_FOLDERS)
    conf = folder / "nginx.conf"
    conf.write_text(f"events {{}} http {{ {paths} include {folder}/site.conf; }}")
    return conf


@pytest.mark.parametrize("host", CHOICES["host"])
def test_nginx_accepts_its_file(tmp_path: Path, host: str) -> None:
    need("nginx")
    conf = nginx_file(tmp_path, host=host, port=free_port())

    done = subprocess.run(nginx.command(conf, "-t"), capture_output=True, text=True, timeout=LIMIT)

    assert (done.returncode, "[warn]" in done.stderr) == (0, False), done.stderr


async def test_nginx_sends_errors_of_the_protocol(tmp_path: Path) -> None:
    need("nginx")
    port = free_port()
    conf = nginx_file(tmp_path, port=port)
    requests = {"/files": 12_000_000, "/login": 2_000_000, "/version": 0}
    errors = {}

    async with (
        listening_process("nginx", nginx.command(conf), tmp_path, port),
        aiohttp.ClientSession(f"https://127.0.0.1:{port}") as http,
    ):
        for path, size in requests.items():
            async with http.post(path, data=io.BytesIO(b"x" * size), ssl=False) as response:
                errors[path] = (response.status, (await response.json())["error"])

    assert errors == {
        "/files": (413, "too_large"),
        "/login": (413, "invalid_request"),
        "/version": (503, "temporarily_unavailable"),
    }


async def test_nginx_serves_the_challenges_of_certbot(tmp_path: Path) -> None:
    need("nginx")
    port, http_port = free_port(), free_port()
    conf = nginx_file(tmp_path, port=port, http_port=http_port)
    conf.write_text(f"user {getpass.getuser()}; {conf.read_text()}")  # the folder is private
    challenge = tmp_path / ".well-known" / "acme-challenge" / "token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")

    async with (
        listening_process("nginx", nginx.command(conf), tmp_path, port),
        aiohttp.ClientSession(f"http://127.0.0.1:{http_port}") as http,
        http.get("/.well-known/acme-challenge/token") as proof,
        http.get("/login", headers={"Host": PUBLIC}, allow_redirects=False) as other,
    ):
        assert (proof.status, await proof.text()) == (200, "proof")
        assert (other.status, other.headers["Location"]) == (308, f"https://{PUBLIC}/login")


def test_nginx_sends_hsts_by_the_shipped_rule(tmp_path: Path) -> None:
    text = files_for(tmp_path, host=PUBLIC, proxy="nginx", provider="pretend")["nginx.conf"]
    shipped = (DEPLOY / "nginx-tls.conf").read_text()

    [rule, shipped_rule] = [
        re.findall(r"map \$host (.+)\{\s+(.+)\s+(.+)", it) for it in (text, shipped)
    ]
    assert rule == shipped_rule != []
    assert "Strict-Transport-Security $scan_login_hsts always;" in text


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    call(tmp_path, "init", "--answers", str(write_answers(tmp_path, host=LOCAL)))
    unit = tmp_path / "scan-login" / "scan-login.service"

    done = subprocess.run(
        [need("systemd-analyze"), "verify", str(unit)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )

    assert done.returncode == 0
    assert "scan-login" not in done.stderr


async def test_broker_starts_with_generated_settings(tmp_path: Path) -> None:
    done = call(tmp_path, "init", "--answers", str(write_answers(tmp_path, host=LOCAL)))
    variables = variables_of((tmp_path / "scan-login" / "scan-login.env").read_text())
    port = str(free_port())
    moved = {
        **variables,
        "SCAN_LOGIN_PORT": port,
        "SCAN_LOGIN_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SCAN_LOGIN_ORIGINS": f"http://127.0.0.1:{port}",
    }

    with serving(tmp_path, **moved):
        assert await logs_in(f"http://127.0.0.1:{port}")

    assert (done.returncode, done.stderr) == (0, "")


def test_secrets_are_in_the_private_file_only(tmp_path: Path) -> None:
    file = write_answers(tmp_path, host=PUBLIC, provider="wechat")

    done = call(tmp_path, "init", "--answers", str(file), "--output", "new")

    folder = tmp_path / "new"
    holders = [path.name for path in folder.iterdir() if APPSECRET in path.read_text()]
    assert holders == ["scan-login.env"]
    assert (folder / "scan-login.env").stat().st_mode & 0o777 == 0o600
    assert APPSECRET not in done.stdout


def test_init_prints_page_and_next_command(tmp_path: Path) -> None:
    file = write_answers(tmp_path, host=PUBLIC, provider="wechat", run_by="compose")

    done = call(tmp_path, "init", "--answers", str(file))

    page = (tmp_path / "scan-login" / "login.html").read_text()
    assert page.count("\n") == 12
    assert page in done.stdout
    assert f"docker compose --project-directory {tmp_path}/scan-login up --wait" in done.stdout
    assert "scan-login doctor" in done.stdout


@pytest.mark.parametrize("proxy", ["caddy", "nginx"])
def test_init_prints_the_start_of_service_and_proxy(tmp_path: Path, proxy: str) -> None:
    file = write_answers(tmp_path, host=PUBLIC, provider="wechat", proxy=proxy)

    done = call(tmp_path, "init", "--answers", str(file))

    assert f"{tmp_path}/scan-login/scan-login.env /etc/scan-login/env\n" in done.stdout
    assert "sudo systemctl enable --now scan-login\n" in done.stdout
    assert f"sudo systemctl reload {proxy}\n" in done.stdout


@pytest.mark.parametrize(
    ("run_by", "host", "certificate", "start"),
    [
        ("systemd", PUBLIC, "certbot certonly --webroot", "sudo nginx -t && sudo systemctl reload"),
        ("systemd", LOCAL, "subjectAltName=IP:127.0.0.1", "sudo nginx -t && sudo systemctl reload"),
        ("compose", PUBLIC, "certbot certonly --standalone", "up --wait"),
        ("compose", LOCAL, "subjectAltName=IP:127.0.0.1", "up --wait"),
    ],
)
def test_init_prints_the_certificate_before_nginx(
    tmp_path: Path, run_by: str, host: str, certificate: str, start: str
) -> None:
    file = write_answers(tmp_path, host=host, run_by=run_by, proxy="nginx")

    done = call(tmp_path, "init", "--answers", str(file))

    assert 0 < done.stdout.find(certificate) < done.stdout.find(start)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"host": LOCAL, "run_by": "compose", "proxy": "caddy"}, "root.crt https://127.0.0.1/"),
        ({"host": LOCAL, "run_by": "compose", "proxy": "nginx"}, "In the container, `public URL:"),
        ({"host": LOCAL, "proxy": "caddy"}, "sudo caddy trust"),
        ({"host": PUBLIC, "proxy": "none"}, "SCAN_LOGIN_TRUSTED_PROXIES is 127.0.0.1."),
        ({"host": PUBLIC, "proxy": "none", "run_by": "compose"}, "_PROXIES is 172.29.0.1."),
        ({"host": PUBLIC, "users": "webhook"}, "SCAN_LOGIN_DIRECTORY_SECRET"),
        ({"host": PUBLIC, "users": "sql"}, "scan-login user invite u-alice"),
        ({"host": PUBLIC, "users": "sql", "run_by": "compose"}, "broker scan-login user add"),
    ],
)
def test_init_prints_what_the_answers_require(
    tmp_path: Path, answers: dict[str, str], sentence: str
) -> None:
    plain = call(tmp_path, "init", "--answers", str(write_answers(tmp_path, host=PUBLIC)))

    file = write_answers(tmp_path, **answers)
    done = call(tmp_path, "init", "--answers", str(file), "--output", "new")

    assert sentence in done.stdout
    assert sentence not in plain.stdout


@pytest.mark.parametrize(
    ("path", "is_hidden"),
    [
        (INSTALLED, False),
        ("/usr/bin/python3", False),
        ("/home/a/venv/bin/scan-login", True),
        ("/root/.pyenv/versions/3.11.7/bin/python3.11", True),
    ],
)
def test_program_in_a_home_is_noticed(path: str, is_hidden: bool) -> None:
    assert path_in_a_home(INSTALLED, path) == (path if is_hidden else "")


def test_python_behind_a_link_is_named_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.cli.init_report.HOMES", (str(tmp_path / "home"),))
    python = tmp_path / "home" / "python3"
    python.parent.mkdir()
    python.touch()
    (tmp_path / "python").symlink_to(python)

    assert path_in_a_home(INSTALLED, str(tmp_path / "python")) == str(python)


def test_hidden_python_is_reported_before_the_start(tmp_path: Path) -> None:
    answers = read_answers(write_answers(tmp_path, host=LOCAL))
    settings = settings_for(answers)
    program = "/home/alice/venv/bin/scan-login"
    generated = generate(answers, settings, program=program)

    text = report(generated, answers, settings, folder=tmp_path, program=program)

    assert f"\n  {program}\n" in text
    assert 0 < text.find("sudo /usr/bin/python3 -m venv") < text.find("Start the broker")


def test_existing_files_are_replaced_by_force_only(tmp_path: Path) -> None:
    words = ["init", "--answers", str(write_answers(tmp_path, host=LOCAL))]
    call(tmp_path, *words)
    path = tmp_path / "scan-login" / "scan-login.env"
    path.chmod(0o644)
    before = path.read_text()

    refused = call(tmp_path, *words)
    kept = path.read_text()
    forced = call(tmp_path, *words, "--force")

    assert (refused.returncode, kept) == (1, before)
    assert "--force" in refused.stderr
    assert forced.returncode == 0
    assert path.read_text() != before
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (
            {"host": PUBLIC, "provider": "pretend", "confirm_pretend": "no"},
            "others reach this host",
        ),
        ({"host": "https://x"}, "host: use a host name"),
        ({"host": PUBLIC, "state": "disk"}, "state: use memory or redis"),
        ({"host": "127.0.0.2"}, "host: use 127.0.0.1 or localhost"),
        ({"host": PUBLIC, "wechat_appid": "wx1"}, "wechat_appid: use the AppID of a mini program"),
        ({"host": PUBLIC, "wechat_secret": "x" * 32}, "wechat_secret: use the AppSecret"),
        ({"host": PUBLIC, "redis_url": "redis://h"}, "redis_url: not used with the other answers"),
        ({"host": PUBLIC, "state": "redis", "redis_url": "redis://[h"}, "redis_url: use a URL"),
        ({"host": PUBLIC, "state": "redis", "redis_url": "redis://it's"}, "redis_url: use printa"),
        (
            {
                **{"host": LOCAL, "run_by": "compose"},
                **{"state": "redis", "redis_url": "redis://127.0.0.1:6379/0"},
            },
            "redis_url: a container cannot reach Redis",
        ),
        ({"host": PUBLIC, "origin": "shop.example.com"}, "origin: use an Origin"),
        ({"host": PUBLIC, "users": "webhook", "webhook_url": "http://x"}, "webhook_url: use an"),
        ({"host": PUBLIC, "colour": "red"}, "colour: unknown"),
    ],
)
def test_invalid_answers_are_refused(
    tmp_path: Path, answers: dict[str, str], sentence: str
) -> None:
    refused = call(tmp_path, "init", "--answers", str(write_answers(tmp_path, **answers)))

    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert not (tmp_path / "scan-login").exists()


def test_pretend_on_public_host_needs_confirmation(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(
        f'host = "{PUBLIC}"\nprovider = "pretend"\napp_name = "A"\norigin = "https://a.example"\n'
    )

    refused = call(tmp_path, "init", "--answers", str(file))

    assert refused.returncode == 2
    assert "confirm_pretend: with the pretend provider anyone can log in" in refused.stderr


def test_documented_answers_are_accepted(tmp_path: Path) -> None:
    [example] = re.findall(r"```toml\n(host = .*?)```", PAGE, re.DOTALL)
    file = tmp_path / "answers.toml"
    file.write_text(example)

    assert {*read_answers(file)} == {question.name for question in QUESTIONS} - {"confirm_pretend"}


def test_init_asks_again_after_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        *("https://x", PUBLIC, "wechat", "wx0123456789abcdef", APPSECRET),
        *("systemd", "memory", "open", "", "A shop", "https://shop.example.com"),
    ]

    done = CliRunner().invoke(command, ["init"], input="".join(f"{line}\n" for line in lines))

    assert done.exit_code == 0, done.output
    assert "use a host name such as" in done.output
    assert APPSECRET not in done.output
    variables = variables_of((tmp_path / "scan-login" / "scan-login.env").read_text())
    assert variables["SCAN_LOGIN_PUBLIC_URL"] == f"https://{PUBLIC}"
    assert (tmp_path / "scan-login" / "Caddyfile").exists()


def answer_questions(folder: Path, *lines: str) -> tuple[str, dict[str, str]]:
    """Return what init prints for these answers, and the variables that it writes."""
    output = folder / "scan-login"
    words = ["init", "--output", str(output)]
    done = CliRunner().invoke(command, words, input="".join(f"{line}\n" for line in lines))
    assert done.exit_code == 0, done.output
    return done.output, variables_of((output / "scan-login.env").read_text())


def test_init_asks_again_for_the_credentials(tmp_path: Path) -> None:
    credentials = ("wx1", "wx0123456789abcdef", "short", APPSECRET)

    output, variables = answer_questions(
        *(tmp_path, PUBLIC, "wechat", *credentials),
        *("systemd", "memory", "open", "none", "A shop", "https://shop.example.com"),
    )

    assert "wx and 16 letters or digits" in output
    assert "32 hexadecimal digits" in output
    assert variables["SCAN_LOGIN_WECHAT_APPID"] == "wx0123456789abcdef"


def test_declined_pretend_returns_to_the_provider(tmp_path: Path) -> None:
    output, variables = answer_questions(
        *(tmp_path, PUBLIC, "pretend", "", "n", "pretend", "y"),
        *("systemd", "memory", "open", "none", "A shop", "https://shop.example.com"),
    )

    assert "use yes, or no for another provider" in output
    assert output.count("Provider: wechat, or pretend") == 2
    assert variables["SCAN_LOGIN_PROVIDER"] == "pretend"


def test_declined_pretend_leaves_no_trace(tmp_path: Path) -> None:
    _, variables = answer_questions(
        *(tmp_path, PUBLIC, "pretend", "n", "wechat", "wx0123456789abcdef", APPSECRET),
        *("systemd", "memory", "open", "none", "A shop", "https://shop.example.com"),
    )

    assert variables["SCAN_LOGIN_PROVIDER"] == "wechat"
    assert "SCAN_LOGIN_ALLOW_PRETEND" not in variables


@pytest.mark.parametrize("host", ["a" * 64, f"{'a' * 40}_x", "a..b", "-a.example", "a" * 300])
def test_invalid_host_is_refused_at_once(host: str) -> None:
    """Backtracking would take years."""
    with pytest.raises(InvalidAnswer, match="use a host name"):
        check_host(host)


@pytest.mark.parametrize("url", ["redis://:pw@redis:6379/0", "rediss://redis", "redis:///0"])
def test_other_url_of_composed_redis_is_refused(url: str) -> None:
    with pytest.raises(InvalidAnswer):
        check_container_redis_url(url)


def test_empty_answer_is_explained(tmp_path: Path) -> None:
    output, _ = answer_questions(
        *(tmp_path, LOCAL, "", "systemd", "memory", "open", "none"),
        *("", "A shop", "https://shop.example.com"),
    )

    assert "use 1 to 64 printable characters" in output

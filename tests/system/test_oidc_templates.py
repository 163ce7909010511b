"""`scan-login app show ID --oidc NAME`: configuration that each product can read."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from broker.apps.model import App, AppRecord
from broker.cli.demo.gateway import envoy_program
from broker.cli.oidc_products import (
    PRODUCTS,
    SECRET_PLACEHOLDER,
    Product,
    fill_template,
    find_problems,
)
from tests.support.certificate import certificate
from tests.support.commands import Call
from tests.support.environment import need, need_file
from tests.support.servers.apache import CONFIGURATION, LOADED, MODULES

ISSUER = "https://login.example"


def fitting_app(product: Product, **changes: object) -> App:
    """Return an app with every field as the product needs it."""
    site = "https://site.example"
    fields: dict[str, object] = {
        "redirect_urls": frozenset([site + (product.callback or "/callback")]),
        "scopes": product.scopes,
        "client_type": "public" if product.is_public else "confidential",
        "post_logout_urls": frozenset([site]),
        "backchannel_logout_url": f"{site}{product.backchannel}",
        **changes,
    }
    return App(id="site", name="Site", origins=frozenset(), **fields)  # type: ignore[arg-type]


def record_of(app: App, *, has_api_secret: bool = True) -> AppRecord:
    return AppRecord(
        app=app,
        has_provider_secret=False,
        has_api_secret=has_api_secret,
        has_wafer_key=False,
        created_at=0.0,
        changed_at=0.0,
    )


def filled(name: str) -> str:
    return fill_template(name, fitting_app(PRODUCTS[name]), ISSUER)


def parse_json_body(text: str) -> object:
    return json.loads(re.findall(r"--data '(.*)'", text, re.DOTALL)[0])


def parse_ini(text: str) -> object:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


PARSERS: dict[str, Callable[[str], object]] = {
    "argocd": lambda text: yaml.safe_load(yaml.safe_load(text)["data"]["oidc.config"]),
    "envoy": yaml.safe_load,
    "grafana": parse_ini,
    "harbor": parse_json_body,
    "home-assistant": yaml.safe_load,
    "jupyterhub": ast.parse,
    "kubernetes": lambda text: list(yaml.safe_load_all(text)),
    "oauth2-proxy": tomllib.loads,
    "pgadmin": ast.parse,
    "spring": yaml.safe_load,
    "synapse": yaml.safe_load,
    "traefik": yaml.safe_load,
}


@pytest.mark.parametrize("name", PARSERS)
def test_template_is_valid_in_its_language(name: str) -> None:
    assert PARSERS[name](filled(name))


@pytest.mark.parametrize("name", ["gitea", "harbor", "nextcloud"])
def test_command_template_is_valid_shell(name: str) -> None:
    done = subprocess.run(["sh", "-n"], input=filled(name), text=True, capture_output=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", PRODUCTS)
def test_template_has_issuer_id_and_secret_placeholder(name: str) -> None:
    text = filled(name)

    behind_proxy = name in ("nginx", "traefik")  # oauth2-proxy has these values
    assert (ISSUER in text) is not behind_proxy
    assert (SECRET_PLACEHOLDER in text) is not (behind_proxy or PRODUCTS[name].is_public)
    assert not re.search(r"@\w+@", text)


@pytest.mark.parametrize("name", PRODUCTS)
def test_fitting_app_has_no_problem(name: str) -> None:
    app = fitting_app(PRODUCTS[name])

    assert list(find_problems(name, record_of(app), ISSUER)) == []


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        (
            "grafana",
            {"redirect_urls": frozenset(["https://g.example/cb"])},
            "--redirect-url https://g.example/login/generic_oauth",
        ),
        ("argocd", {"scopes": ("openid", "email")}, "also requests profile groups"),
        ("grafana", {"refresh": "never"}, "--refresh offline_access"),
        ("gitea", {"pkce": "required"}, "--pkce optional"),
        ("argocd", {"pkce": "required"}, "--pkce optional"),
        ("spring", {"id_token_alg": "ES256"}, "--id-token-alg RS256"),
        (
            "aspnet",
            {"post_logout_urls": frozenset()},
            "--post-logout-url https://site.example/signout-callback-oidc",
        ),
        (
            "synapse",
            {"backchannel_logout_url": None},
            "https://site.example/_synapse/client/oidc/backchannel_logout",
        ),
        ("oidc-client-ts", {"client_type": "confidential"}, "--client-type public"),
        ("gitlab", {"client_type": "public"}, "--client-type confidential"),
    ],
)
def test_unfitting_field_is_reported_with_remedy(
    name: str, changes: dict[str, object], problem: str
) -> None:
    app = fitting_app(PRODUCTS[name], **changes)

    [found] = find_problems(name, record_of(app), ISSUER)

    assert problem in found


def test_traefik_passes_renewed_cookies_to_the_browser() -> None:
    http = yaml.safe_load(filled("traefik"))["http"]

    assert (
        "_oauth2_proxy"
        in http["middlewares"]["scan-login"]["forwardAuth"]["addAuthCookiesToResponse"]
    )
    assert all("tls" in router for router in http["routers"].values())


def test_missing_secret_is_reported() -> None:
    record = record_of(fitting_app(PRODUCTS["gitlab"]), has_api_secret=False)

    [found] = find_problems("gitlab", record, ISSUER)

    assert "scan-login app rotate-secret site" in found


def test_issuer_without_https_is_reported() -> None:
    record = record_of(fitting_app(PRODUCTS["gitlab"]))

    [found] = find_problems("gitlab", record, "http://127.0.0.1:8000")

    assert "SCAN_LOGIN_PUBLIC_URL" in found


def test_apache_accepts_its_template(tmp_path: Path) -> None:
    program = need_file("/usr/sbin/apache2")
    need_file(str(MODULES / "mod_auth_openidc.so"))
    loaded = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in LOADED)
    loaded += f"LoadModule auth_openidc_module {MODULES}/mod_auth_openidc.so\n"
    conf = tmp_path / "httpd.conf"
    server = "ServerName localhost\nListen 127.0.0.1:1\nErrorLog /dev/stderr\n"
    conf.write_text(loaded + server + filled("apache"))

    done = subprocess.run([program, "-t", "-f", str(conf)], capture_output=True, text=True)

    assert "Syntax OK" in done.stderr


def test_apache_template_has_directives_that_tests_run() -> None:
    tested = set(re.findall(r"^(OIDC\w+) ", CONFIGURATION, re.MULTILINE))

    printed = set(re.findall(r"^(OIDC\w+) ", filled("apache"), re.MULTILINE))

    assert printed
    assert printed <= tested


def test_nginx_accepts_its_template(tmp_path: Path) -> None:
    program = need("nginx")
    certificate(tmp_path)
    site = filled("nginx").replace("/etc/ssl/site.pem", str(tmp_path / "cert.pem"))
    site = site.replace("/etc/ssl/site.key", str(tmp_path / "key.pem"))
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{site}}}\n")

    done = subprocess.run(
        [program, "-t", "-c", str(conf), "-p", str(tmp_path)], capture_output=True, text=True
    )

    assert "test is successful" in done.stderr


def test_envoy_accepts_its_template(tmp_path: Path) -> None:
    conf = tmp_path / "envoy.yaml"
    conf.write_text(filled("envoy"))

    done = subprocess.run(
        [envoy_program(), "--mode", "validate", "-c", str(conf), "--log-level", "error"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )

    assert done.returncode == 0, done.stderr


def test_command_prints_configuration_of_product(call: Call) -> None:
    url = "https://wiki.example/login/generic_oauth"
    call("app", "add", "wiki", "--oidc", "--redirect-url", url)

    shown = call("app", "show", "wiki", "--oidc", "grafana")

    assert shown.code == 0
    assert "client_id = wiki\n" in shown.text
    assert "warning: scopes: grafana also requests email offline_access" in shown.text


def test_alias_prints_the_same_configuration(call: Call) -> None:
    call("app", "add", "site", "--oidc", "--redirect-url", "https://site.example/callback")

    alias, name = (call("app", "show", "site", "--oidc", it) for it in ("nextauth", "authjs"))

    assert alias.text == name.text
    assert 'type: "oidc"' in alias.text


def test_unknown_product_is_refused_with_the_names(call: Call) -> None:
    call("app", "add", "site", "--oidc", "--redirect-url", "https://site.example/callback")

    shown = call("app", "show", "site", "--oidc", "mainframe")

    assert shown.code == 2
    assert "'mainframe' is unknown; use one of apache, appauth" in shown.text


def test_app_without_redirect_url_has_no_configuration(call: Call) -> None:
    call("app", "add", "site")

    shown = call("app", "show", "site", "--oidc", "gitlab")

    assert shown.code == 2
    assert "--redirect-url https://HOST/users/auth/openid_connect/callback" in shown.text


def test_app_is_shown_with_words_and_readable_times(call: Call) -> None:
    call("app", "add", "site", "--origin", "https://site.example")

    shown = call("app", "show", "site").text
    as_json = json.loads(call("app", "show", "site", "--json").text)

    assert re.search(r"^has_api_secret +no$", shown, re.MULTILINE)
    assert re.search(r"^created_at +20\d\d-\d\d-\d\d [\d:]{8}Z$", shown, re.MULTILINE)
    assert as_json["has_api_secret"] is False


def test_default_app_refers_to_the_settings(call: Call) -> None:
    shown = call("app", "show", "default")

    assert shown.code == 2
    assert "see scan-login config show" in shown.text

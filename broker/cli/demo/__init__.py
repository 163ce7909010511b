"""`scan-login demo`: broker, example site and phone page in one process."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer
from typer.models import OptionInfo


def port_option(variable: str, subject: str) -> OptionInfo:
    help_text = f"Port of the {subject}."
    option: OptionInfo = typer.Option(envvar=variable, min=1, max=65535, help=help_text)
    return option


def demo(
    host: Annotated[
        str,
        typer.Option(
            envvar="HOST",
            help="Address to listen on; with 0.0.0.0, phones on the same network can connect.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, port_option("PORT", "broker")] = 8000,
    site_port: Annotated[int, port_option("SITE_PORT", "example site")] = 8080,
    phone_port: Annotated[int, port_option("PHONE_PORT", "phone page")] = 8090,
    wechat_port: Annotated[int, port_option("WECHAT_PORT", "WeChat stub")] = 8091,
    gateway_port: Annotated[int, port_option("GATEWAY_PORT", "gateway")] = 8070,
    admin_port: Annotated[int, port_option("ADMIN_PORT", "admin page")] = 9000,
    provider: Annotated[
        Literal["pretend", "wechat"],
        typer.Option(envvar="PROVIDER", help="Provider; `wechat` uses a stub of WeChat's server."),
    ] = "pretend",
    pool: Annotated[
        bool,
        typer.Option(
            "--pool",
            envvar="POOL",
            help="Draw codes in advance, from the WeChat stub, and print how many are free.",
        ),
    ] = False,
    oidc: Annotated[
        bool,
        typer.Option(
            "--oidc",
            envvar="OIDC",
            help="Also run Envoy as a product that signs in with OpenID Connect; the example "
            "site signs in with it too.",
        ),
    ] = False,
) -> None:
    """Run broker, example site and phone page. No WeChat account is needed."""
    from broker.cli.demo.run import DemoOptions, DemoPorts, run_demo

    ports = DemoPorts(port, site_port, phone_port, wechat_port, gateway_port, admin_port)
    options = DemoOptions("wechat" if pool else provider, pooled=pool, oidc=oidc)
    asyncio.run(run_demo(host, ports, options))

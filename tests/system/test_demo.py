"""The command `scan-login demo`, which `make demo` runs."""

from __future__ import annotations

import base64
import signal

import aiohttp

from broker.cli.demo.run import DemoURLs, greeting, own_address
from mp_stub.wechat.platform import APPID, person_id
from tests.support.clients import PythonBrowser
from tests.support.demo import demo, phone, run_curl
from tests.support.oidc_browser import ScanBrowser
from tests.support.wechat import link_in

SITES = ("PORT", "SITE_PORT", "PHONE_PORT", "ADMIN_PORT")


async def test_demo_serves_its_applications_until_ctrl_c() -> None:
    async with demo() as running:
        for name, port in [
            ("Example site", "SITE_PORT"),
            ("Game", "SITE_PORT"),
            ("Phone page", "PHONE_PORT"),
            ("Broker", "PORT"),
            ("Admin page", "ADMIN_PORT"),
            ("HTTP API", "ADMIN_PORT"),
        ]:
            assert running.ports[port] in await running.line(name)
        async with aiohttp.ClientSession() as http:
            for port in [running.ports[name] for name in SITES]:
                async with http.get(f"http://127.0.0.1:{port}/") as response:
                    assert response.status == 200

        running.process.send_signal(signal.SIGINT)
        _, errors = await running.process.communicate()

        assert running.process.returncode == 0
        assert errors == b""


async def test_demo_accepts_configured_origins() -> None:
    async with demo(SCAN_LOGIN_ORIGINS="http://127.0.0.1:1") as running:
        await running.line("Broker")
        url = f"http://127.0.0.1:{running.ports['PORT']}/socket.io/?EIO=4&transport=polling"
        site = f"http://127.0.0.1:{running.ports['SITE_PORT']}"
        async with aiohttp.ClientSession() as http:
            for origin, status in [("http://127.0.0.1:1", 200), (site, 200), ("http://x", 400)]:
                async with http.get(url, headers={"Origin": origin}) as response:
                    assert (origin, response.status) == (origin, status)


async def test_code_in_the_terminal_logs_the_terminal_in() -> None:
    async with demo() as running:
        link = (await running.line("log in this terminal")).split()[-1]
        broker = f"http://127.0.0.1:{running.ports['PORT']}"

        assert (await phone("confirm", link, "--as", "bob", broker=broker)).code == 0

        assert "logged in as pretend:bob" in await running.line("This terminal:")


async def test_demo_with_wechat_stub_logs_in() -> None:
    async with demo("--provider", "wechat") as running:
        broker, site = (f"http://127.0.0.1:{running.ports[name]}" for name in ("PORT", "SITE_PORT"))
        wechat = (await running.line("WeChat stub")).split()[2]
        browser = PythonBrowser(["websocket"])
        await browser.connect(broker)
        login = await browser.emit("begin", {})
        link = link_in(base64.b64decode(login["code_url"].partition(",")[2]))
        assert link.startswith(f"http://127.0.0.1:{running.ports['PHONE_PORT']}/?")

        confirmed = await phone("confirm", link, "--as", "bob", "--wechat", wechat, broker=broker)
        assert (confirmed.code, confirmed.errors) == (0, "")
        owned = {"login_id": login["login_id"], "secret": login["secret"]}
        token = (await browser.emit("redeem", owned))["access_token"]
        await browser.close()

        # The example site accepts the token.
        jar = aiohttp.CookieJar(unsafe=True)  # the site's address is an IP address
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            proof, headers = {"access_token": token}, {"Origin": site}
            async with http.post(f"{site}/session", json=proof, headers=headers) as response:
                assert response.status == 200
            async with http.get(f"{site}/account") as page:
                assert person_id(APPID, "bob") in await page.text()


async def test_demo_with_pool_logs_in_during_wechat_outage() -> None:
    """Runs the commands that the demo prints."""
    async with demo("--pool") as running:
        broker = f"http://127.0.0.1:{running.ports['PORT']}"
        wechat = (await running.line("WeChat stub")).split()[2]
        progress = await running.line("Drawing codes")
        assert progress.strip() == "Drawing codes  100 of 100"
        off, on = await running.line("stable_token"), await running.line("DELETE")
        await running.line("Pool ")
        browser = PythonBrowser(["websocket"])
        await browser.connect(broker)

        await run_curl(off)
        login = await browser.emit("begin", {})
        async with aiohttp.ClientSession() as http:
            async with http.get(login["code_url"]) as picture:
                link = link_in(await picture.read())
            async with http.get(f"{wechat}/pretend/calls") as calls:
                drawn_codes = (await calls.json())["getwxacodeunlimit"]
        confirmed = await phone("confirm", link, "--as", "bob", "--wechat", wechat, broker=broker)
        owned = {"login_id": login["login_id"], "secret": login["secret"]}
        redeemed = await browser.emit("redeem", owned)
        await browser.close()

        assert login["code_url"].startswith(f"{broker}/codes/")
        assert drawn_codes == 100
        assert (confirmed.code, confirmed.errors) == (0, "")
        assert redeemed["access_token"]
        # The code on a screen is that of the terminal.
        await running.line("98 codes free, 1 on screens, 1 in cooldown")
        await run_curl(on)


NOT_NEEDED = {"GATEWAY_PORT", "ADMIN_PORT"}
"""Ports of servers that do not run here, or without which the demo continues."""


async def test_demo_names_port_in_use_and_remedy() -> None:
    async with demo("--provider", "wechat") as first:
        await first.line("Broker")
        for name in first.ports.keys() - NOT_NEEDED:
            async with demo("--provider", "wechat", **{name: first.ports[name]}) as second:
                _, errors = await second.process.communicate()
                assert second.process.returncode == 1
                assert f"{name}=" in errors.decode()
                assert f"port {first.ports[name]} on 127.0.0.1 is in use" in errors.decode()


def test_own_address_is_an_ip_address() -> None:
    assert own_address().count(".") == 3


def test_greeting_explains_scans_of_pooled_codes() -> None:
    urls = DemoURLs("http://b", "http://s", "http://p", "http://w", "http://g")

    assert "code with a QR reader" in greeting("127.0.0.1", urls, pooled=True)


async def test_openid_demo_with_wechat_prints_scannable_links() -> None:
    async with demo("--provider", "wechat", "--oidc") as running:
        wechat = (await running.line("WeChat stub")).split()[2]
        assert "no link to the phone page" in await running.line("sign-in page")
        link = (await running.line("Code drawn")).split()[-1]

        scanned = await phone(
            "scan", link, "--wechat", wechat, broker=f"http://127.0.0.1:{running.ports['PORT']}"
        )

    assert (scanned.code, scanned.errors) == (0, "")


async def test_demo_with_openid_connect_signs_in_twice() -> None:
    """Envoy signs the person in by scan, and then the example site without a scan."""
    async with demo("--oidc") as running:
        await running.line("Gateway")
        broker, site, gateway = (
            f"http://127.0.0.1:{running.ports[name]}"
            for name in ("PORT", "SITE_PORT", "GATEWAY_PORT")
        )
        async with ScanBrowser(broker, secure=(gateway,)) as browser:
            page = await browser.sign_in(f"{gateway}/", "carol")
            assert (page.status, "Signed in as pretend:carol" in page.text) == (200, True)

            page = await browser.open(f"{site}/oidc/sign-in")
            assert (page.url.path, "Signed in as carol" in page.text) == ("/account", True)

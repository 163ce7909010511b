"""The admin page in Chromium: each view and act, the sign-in by scan, and accessibility."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import zxingcpp
from PIL import Image
from playwright.async_api import Browser, Locator, Page, Route, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from mp_stub.phone_page import build_phone_page
from tests.support.app_admin import RED, TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import ROOT, free_port
from tests.support.logins import Login, new_login
from tests.support.pages import (
    NARROW,
    WAIT_MS,
    collect_errors,
    fits,
    keep,
    open_page,
    scene_on,
    serious_findings,
)
from tests.support.waiting import eventually

VIEWS = ("live", "apps", "users", "sessions", "pool", "audit", "keys", "system")

LOOKS: Mapping[str, Mapping[str, object]] = {
    "en-wide-light": {},
    "zh-wide-dark": {"locale": "zh-CN", "color_scheme": "dark"},
    "en-narrow-dark": {"viewport": NARROW, "color_scheme": "dark"},
    "zh-narrow-light": {"viewport": NARROW, "locale": "zh-CN"},
}

EXPECTED_COMPLAINTS = ("status of 401", "status of 404", "status of 409")
"""Messages of Chromium about answers that the page shows to the operator."""


README_SNIPPET = re.findall(r"```html\n(<script.*?)\n```", (ROOT / "README.md").read_text(), re.S)[
    0
]


class Operator(NamedTuple):
    """The page of an operator, and what it has complained about."""

    page: Page
    complaints: list[str]

    async def show(self, view: str) -> Locator:
        """Open a view, and return its content once it is loaded."""
        await self.page.locator(f"nav button[data-view={view}]").click()
        content = self.page.locator("main .stack > *:not(:empty)").first
        await expect(content).to_be_visible(timeout=WAIT_MS)
        return self.page.locator("main")

    async def press(self, name: str) -> None:
        """Press a button of the front dialog, or of the page."""
        dialogs = self.page.locator("dialog[open]")
        place = dialogs.last if await dialogs.count() else self.page.locator("main")
        await place.get_by_role("button", name=name, exact=True).last.click()

    async def fill(self, label: str, text: str) -> None:
        await self.page.locator("dialog[open]").last.get_by_label(label).first.fill(text)

    async def is_closed(self) -> None:
        await expect(self.page.locator("dialog[open]")).to_have_count(0, timeout=WAIT_MS)


@asynccontextmanager
async def an_operator(
    chromium: Browser, broker: RunningBroker, **look: object
) -> AsyncIterator[Operator]:
    page = await open_page(chromium, "about:blank", **look)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    collect_errors(
        page,
        complaints,
        is_expected=lambda line: any(text in line.text for text in EXPECTED_COMPLAINTS),
    )
    await page.goto(broker.admin)
    await page.locator("input[type=password]").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.locator("nav")).to_be_visible(timeout=WAIT_MS)
    yield Operator(page, complaints)
    await page.context.close()


class Prepared(NamedTuple):
    """A broker with an app, a user, a pool, a waiting login and a phone."""

    broker: RunningBroker
    login: Login


@asynccontextmanager
async def prepared(start_broker: StartBroker) -> AsyncIterator[Prepared]:
    port = free_port()
    broker = await start_broker(
        "sql",
        admin_token=TOKEN,
        code_source="pool",
        pool_size=2,
        phone_page_url=f"http://127.0.0.1:{port}/",
    )
    phones = Site("phone", build_phone_page(broker_url=broker.url), "127.0.0.1", port, "PORT")
    async with Admin(broker.admin) as admin:
        await admin.ask("POST", "/apps", RED)
        await admin.ask("POST", "/users", {"id": "u-alice", "name": "Alice"})
    async with (
        serve_sites([phones]),
        new_login(broker) as login,
        PhoneClient(broker.url, "alice") as phone,
    ):
        await phone.post("scan", {"scene": login.scene})
        yield Prepared(broker, login)


async def test_every_view_is_accessible_and_fits_in_each_look(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with prepared(start_broker) as prepared_broker:
        for look, options in LOOKS.items():
            async with an_operator(chromium, prepared_broker.broker, **options) as operator:
                for view in VIEWS:
                    await operator.show(view)

                    await keep(operator.page, f"admin-{view}-{look}")
                    assert await serious_findings(operator.page) == [], (look, view)
                    assert await fits(operator.page), (look, view)
                assert operator.complaints == []


async def test_operator_acts_on_logins_apps_and_users(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with (
        prepared(start_broker) as prepared_broker,
        an_operator(chromium, prepared_broker.broker) as operator,
    ):
        page = operator.page

        await end_a_login(operator, prepared_broker.login)
        await manage_an_app(operator, prepared_broker.broker.url)
        await manage_a_user(operator)
        await manage_sessions(operator)
        await manage_pool_and_keys(operator)

        assert operator.complaints == []
        await page.reload()
        await expect(page.locator("input[type=password]")).to_be_visible()


async def end_a_login(operator: Operator, login: Login) -> None:
    main = await operator.show("live")
    await expect(main.get_by_role("cell", name="scanned")).to_be_visible()
    await main.get_by_role("button", name="End: default").click()
    await operator.press("End")
    await operator.is_closed()
    await expect(main.get_by_text("No browser waits")).to_be_visible(timeout=WAIT_MS)
    events = [(await login.heard())[0], (await login.heard())[0]]
    assert events == ["login-scanned", "login-expired"]


async def manage_an_app(operator: Operator, broker_url: str) -> None:
    main = await operator.show("apps")
    await main.get_by_role("row", name="red").get_by_role("button", name="Connect").click()
    snippet = operator.page.locator("dialog[open] pre").first
    expected = README_SNIPPET.replace("https://login.example", broker_url)
    assert await snippet.text_content() == expected.replace('app="default"', 'app="red"')
    await operator.press("Close")
    await operator.press("Add an app")
    await operator.fill("id", "red")
    await operator.fill("name", "Red")
    await operator.press("Add")
    await expect(operator.page.get_by_role("alert")).to_contain_text("already exists")
    await operator.fill("id", "blue")
    await operator.press("Add")
    await operator.is_closed()

    await main.get_by_role("button", name="Edit blue").click()
    await operator.fill("home_url", "https://blue.example")
    await operator.press("Save")
    await operator.is_closed()
    await main.get_by_role("button", name="Edit blue").click()
    await operator.press("New secret")
    await operator.press("New secret")
    secret = operator.page.get_by_label("Secret of the app's servers")
    assert len(await secret.input_value()) == 43
    await keep(operator.page, "admin-secret")
    await operator.press("Done")
    await operator.press("Delete")
    await operator.press("Delete")
    await operator.is_closed()
    await expect(main.get_by_role("cell", name="blue")).to_have_count(0)


async def redeem(operator: Operator) -> None:
    """Open the link of the shown invitation on a phone, and register there."""
    page = operator.page
    link = await page.get_by_label("Link").input_value()
    picture = await page.locator("img.qr").screenshot()
    [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))
    assert code.text == link
    phone = await page.context.new_page()
    await phone.goto(link)
    await phone.locator("#scan").click()
    await expect(phone.locator("#outcome-title")).to_have_text("Registered", timeout=WAIT_MS)
    await keep(phone, "admin-registered-phone")
    await phone.close()


async def manage_a_user(operator: Operator) -> None:
    main = await operator.show("users")
    await operator.press("Add a user")
    await operator.fill("Id", "u-bob")
    await operator.press("Add")
    await operator.is_closed()

    await main.get_by_role("button", name="Invite u-bob").click()
    assert await operator.page.get_by_label("Invitation").first.input_value()
    await keep(operator.page, "admin-invitation")
    await redeem(operator)
    await operator.press("Done")
    await operator.show("users")
    await main.get_by_role("button", name="Edit u-bob").click()
    await expect(operator.page.get_by_role("cell", name="alice", exact=True).last).to_be_visible(
        timeout=WAIT_MS
    )
    await operator.press("Link a phone")
    await operator.fill("Provider", "pretend")
    await operator.fill("Openid", "bob")
    await operator.press("Link a phone")
    await operator.is_closed()
    await main.get_by_role("button", name="Edit u-bob").click()
    await operator.press("Unlink")
    await operator.press("Unlink")
    await operator.is_closed()
    await main.get_by_role("button", name="Edit u-bob").click()
    await operator.press("Block")
    await operator.press("Block")
    await operator.is_closed()
    await expect(main.get_by_text("blocked")).to_be_visible(timeout=WAIT_MS)
    await main.get_by_role("button", name="Edit u-bob").click()
    await operator.press("Delete")
    await keep(operator.page, "admin-confirm")
    await operator.press("Delete")
    await operator.is_closed()


async def manage_sessions(operator: Operator) -> None:
    main = await operator.show("sessions")
    await main.get_by_label("Openid").fill("alice")
    await main.get_by_role("button", name="Find").last.click()
    await operator.press("End")  # of the phone that has scanned, or of the phone page
    await operator.press("End")
    await operator.is_closed()
    await operator.press("End all")
    await operator.press("End all")
    await operator.is_closed()
    await expect(main.get_by_text("No sessions")).to_be_visible(timeout=WAIT_MS)


async def manage_pool_and_keys(operator: Operator) -> None:
    main = await operator.show("pool")
    await main.get_by_role("button", name="Fill default").click()
    await operator.fill("Codes that the pool should have", "60")
    await operator.press("Fill")
    await operator.is_closed()
    almost_all = re.compile("^(59|60)$")  # the code of the ended login is in its cooldown
    await expect(main.get_by_role("cell", name=almost_all).first).to_be_visible(timeout=WAIT_MS)

    main = await operator.show("keys")
    await operator.press("Rotate")
    await operator.press("Rotate")
    await operator.is_closed()
    await expect(main.get_by_text("former").first).to_be_visible(timeout=WAIT_MS)
    await operator.press("Rotate")
    await operator.press("Rotate")
    await expect(operator.page.get_by_role("alert")).to_contain_text("try again in")
    await operator.press("Cancel")


async def test_page_refreshes_one_at_a_time_until_sign_out(
    chromium: Browser, start_broker: StartBroker
) -> None:
    broker = await start_broker(admin_token=TOKEN)
    async with an_operator(chromium, broker) as operator:
        page = operator.page
        held: list[Route] = []
        asked: list[str] = []
        await expect(page.get_by_text("Updates live")).to_be_visible(timeout=WAIT_MS)
        await page.clock.install()
        await operator.show("live")
        await expect(page.get_by_text("Updates live")).to_be_visible(timeout=WAIT_MS)
        page.on("request", lambda request: asked.append(request.url))
        await page.route("**/logins?*", lambda route: held.append(route))

        async with new_login(broker), new_login(broker):
            await eventually(lambda: held)
            await page.clock.run_for(60_000)
            assert len(held) == 1

        for route in held:
            await route.continue_()
        await page.get_by_role("button", name="Sign out").click()
        asked.clear()
        await page.clock.run_for(60_000)
        await expect(page.locator("input[type=password]")).to_be_visible()
        assert asked == []


async def test_scan_at_another_address_is_explained(
    chromium: Browser, start_broker: StartBroker
) -> None:
    broker = await start_broker(
        admin_token=TOKEN, admin_url="https://admin.example", admin_subjects=["pretend:alice"]
    )
    page = await open_page(chromium, broker.admin)

    await page.get_by_role("button", name="Sign in by scan").click()

    await expect(page.get_by_role("alert")).to_contain_text("works at https://admin.example only")


async def test_failed_unblock_is_reported(chromium: Browser, start_broker: StartBroker) -> None:
    broker = await start_broker("sql", admin_token=TOKEN)
    async with Admin(broker.admin) as admin, an_operator(chromium, broker) as operator:
        await admin.ask("POST", "/users", {"id": "u-alice"})
        await admin.ask("PATCH", "/users/u-alice", {"blocked": True})
        main = await operator.show("users")
        await main.get_by_role("button", name="Edit u-alice").click()
        await admin.ask("DELETE", "/users/u-alice")
        await operator.press("Unblock")

        problem = operator.page.get_by_role("alert").first
        await expect(problem).to_contain_text(
            "The request failed: no user has this id", timeout=WAIT_MS
        )
        assert operator.complaints == []


def test_texts_have_one_value_for_each_name_and_language() -> None:
    script = (ROOT / "broker/admin/static/admin/texts.js").read_text()
    names = [
        re.findall(r'\b(\w+): "', script.split(f"const {language} = {{")[1].split("\n};")[0])
        for language in ("EN", "ZH")
    ]

    assert [len(one) for one in names] == [len(set(one)) for one in names]
    assert set(names[0]) == set(names[1])


async def test_operator_signs_in_by_scan(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    port = free_port()
    broker = await start_broker(
        admin_token=TOKEN,
        admin_port=port,
        admin_url=f"http://127.0.0.1:{port}",
        admin_subjects=["pretend:alice"],
    )
    page = await open_page(chromium, broker.admin)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    async def sign_in(person: str) -> None:
        await page.get_by_role("button", name="Sign in by scan").click()
        async with PhoneClient(broker.url, person) as phone:
            scene = await scene_on(page)
            scanned = await phone.post("scan", {"scene": scene, "can": ["match"]})
            number = page.locator("scan-login .number")
            await expect(number).to_be_visible(timeout=WAIT_MS)
            match = await number.inner_text()
            assert match in scanned.body["match"]["choices"]
            await phone.post("confirm", {"login_id": scanned.body["login_id"], "match": match})

    await page.locator("input[type=password]").fill("x" * 32)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("token is wrong", timeout=WAIT_MS)
    await sign_in("mallory")
    await expect(page.get_by_role("alert")).to_contain_text("not an operator", timeout=WAIT_MS)
    await sign_in("alice")

    await expect(page.locator("nav")).to_be_visible(timeout=WAIT_MS)
    await expect(page.get_by_text("No browser waits")).to_be_visible(timeout=WAIT_MS)
    assert "?" not in page.url
    assert complaints == []

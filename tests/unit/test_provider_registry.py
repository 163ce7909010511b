"""Tests of the provider registry: each app uses the provider of its own account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace

import pytest
import structlog

from broker.apps.model import App
from broker.identity import registry as module
from broker.identity.errors import ProviderUnavailable
from broker.identity.model import ProviderAccount
from broker.identity.registry import ProviderRegistry
from broker.providers.pretend import PretendProvider
from mp_stub.wechat.platform import MiniProgram
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import OTHER, SHOP, RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually
from tests.support.wechat import APPID, SECRET, Pretending, pretending
from tests.support.wechat_logins import begin, confirm, scanned

RED, RED_SECRET = "wxredredredredred0", "canary-red-secret"


class RecordingProvider(PretendProvider):
    """A provider that records whether it is open."""

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(phone_page_url="http://phone.example/")
        self.account = account
        self.is_open = False

    async def open(self) -> None:
        await asyncio.sleep(0)  # another call can run in between
        assert not self.is_open
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class AppBook:
    """Apps and their secrets. A test can change them."""

    def __init__(self, *apps: App, **secrets: str) -> None:
        self.by_id = {app.id: app for app in apps}
        self.secrets = secrets

    def get(self, app_id: str) -> App | None:
        return self.by_id.get(app_id)

    def with_pool(self) -> Collection[App]:
        return ()

    def origins(self) -> frozenset[str]:
        return frozenset()

    def provider_secret(self, app_id: str) -> str | None:
        return self.secrets.get(app_id)

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        return False


@pytest.fixture
def apps() -> AppBook:
    return AppBook(
        replace(SHOP, provider_app_id="shop-there"),
        replace(OTHER, provider_app_id="other-there"),
        shop="one",
        other="two",
    )


@pytest.fixture
async def providers(apps: AppBook) -> AsyncIterator[ProviderRegistry]:
    own = [ProviderAccount("pretend", "ours")]
    providers = ProviderRegistry(
        apps=apps, secrets=apps, default_accounts=own, factories={"pretend": RecordingProvider}
    )
    await providers.open()
    yield providers
    await providers.close()


async def provider_of(providers: ProviderRegistry, app: App) -> RecordingProvider:
    provider = await providers.get(app)
    assert isinstance(provider, RecordingProvider)
    return provider


async def test_app_has_the_provider_of_its_account(
    providers: ProviderRegistry, apps: AppBook
) -> None:
    shop, other = [await provider_of(providers, apps.by_id[name]) for name in ("shop", "other")]

    assert shop.account == ProviderAccount("pretend", "shop-there", "one")
    assert other.account == ProviderAccount("pretend", "other-there", "two")
    assert shop.is_open
    assert other.is_open


async def test_simultaneous_requests_create_one_provider(
    providers: ProviderRegistry, apps: AppBook
) -> None:
    results = await asyncio.gather(*(provider_of(providers, apps.by_id["shop"]) for _ in range(20)))

    assert len(set(map(id, results))) == 1


async def test_apps_with_one_account_share_a_provider(
    providers: ProviderRegistry, apps: AppBook
) -> None:
    apps.by_id["other"] = replace(apps.by_id["other"], provider_app_id="shop-there")
    apps.secrets["other"] = "one"

    assert await provider_of(providers, apps.by_id["shop"]) is await provider_of(
        providers, apps.by_id["other"]
    )


async def test_app_without_account_uses_the_settings(providers: ProviderRegistry) -> None:
    assert (
        await provider_of(providers, App(id="bare", name="Bare", origins=frozenset()))
    ).account == (ProviderAccount("pretend", "ours"))


async def test_changed_account_replaces_the_provider_after_a_delay(
    providers: ProviderRegistry, apps: AppBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_DELAY", 0.05)
    old = await provider_of(providers, apps.by_id["shop"])
    neighbour = await provider_of(providers, apps.by_id["other"])

    apps.secrets["shop"] = "newer"
    apps.by_id["shop"] = replace(apps.by_id["shop"])  # the object is new after each change
    new = await provider_of(providers, apps.by_id["shop"])
    was_open = old.is_open

    assert new.account.secret == "newer"
    assert was_open  # a draw may be in progress
    await eventually(lambda: not old.is_open)
    assert neighbour.is_open


async def test_app_with_another_name_keeps_its_provider(
    providers: ProviderRegistry, apps: AppBook
) -> None:
    old = await provider_of(providers, apps.by_id["shop"])
    apps.by_id["shop"] = replace(apps.by_id["shop"], name="Another name")

    assert await provider_of(providers, apps.by_id["shop"]) is old


async def test_provider_of_a_removed_app_is_closed(
    providers: ProviderRegistry, apps: AppBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_DELAY", 0.05)
    removed = apps.by_id.pop("shop")

    provider = await provider_of(providers, removed)  # a login in progress
    await provider_of(providers, apps.by_id["other"])

    await eventually(lambda: not provider.is_open)


async def test_close_does_not_wait_for_replaced_providers(
    providers: ProviderRegistry, apps: AppBook, still_clock: LoopClock
) -> None:
    old = await provider_of(providers, apps.by_id["shop"])
    apps.by_id["shop"] = replace(apps.by_id["shop"], provider_app_id="elsewhere")
    new = await provider_of(providers, apps.by_id["shop"])

    await providers.close()  # the clock does not move, so this does not wait

    assert not old.is_open
    assert not new.is_open


@pytest.mark.parametrize(
    ("provider", "reason"),
    [("weixin", "there is no provider 'weixin'"), ("wechat", "neither the app odd nor the")],
)
async def test_app_without_provider_is_refused_and_logged_once(
    providers: ProviderRegistry,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    reason: str,
) -> None:
    app_id = "x" if provider == "weixin" else ""
    app = App(id="odd", name="Odd", origins=frozenset(), provider=provider, provider_app_id=app_id)

    monkeypatch.setattr(module, "log", structlog.get_logger())  # a logger without bound values
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(ProviderUnavailable) as failure:
                await providers.get(app)

    assert reason in failure.value.reason
    assert [entry["app"] for entry in logs] == ["odd"]


def test_repr_of_an_account_hides_its_secret() -> None:
    assert "hush" not in repr(ProviderAccount("wechat", APPID, "hush"))


# --- over the wire


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        wechat.wechat.platform.programs[RED] = MiniProgram(RED, RED_SECRET)
        yield wechat


async def begin_at(broker: RunningBroker, app: str) -> tuple[PythonBrowser, dict[str, str]]:
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url, {"app": app})
    return browser, await begin(browser)


async def test_broker_serves_two_mini_programs(
    wechat: Pretending, start_broker: StartBroker
) -> None:
    broker = await start_broker(**wechat.settings(admin_token=TOKEN))
    async with Admin(broker.admin) as admin:
        red = {"id": "red", "name": "Red", "provider_app_id": RED, "provider_secret": RED_SECRET}
        assert (await admin.ask("POST", "/apps", red)).status == 201
    browser, new_login = await begin_at(broker, "red")
    platform = wechat.wechat.platform

    # The code opens Red's program. Only a js_code of that program is valid for Red.
    scene = scanned(new_login)["scene"]
    async with PhoneClient(
        broker.url, js_code=platform.login("alice", APPID), app="red"
    ) as wrong_phone:
        assert wrong_phone.session["error"] == "invalid_session"
    await confirm(broker.url, scene, platform.login("alice", RED), app="red")
    redeemed = await browser.emit(
        "redeem", {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    )
    await browser.close()

    assert redeemed["subject"].startswith("wechat:")
    assert wechat.wechat.calls["stable_token"] == 2  # one for each program
    assert {SECRET, RED_SECRET}.isdisjoint(str(redeemed))


async def test_app_cannot_use_the_forbidden_pretend_provider(
    wechat: Pretending, start_broker: StartBroker
) -> None:
    """An app with the pretend provider must not disable authentication of a public broker."""
    broker = await start_broker(
        **wechat.settings(admin_token=TOKEN, public_url="https://login.example")
    )
    async with Admin(broker.admin) as admin:
        app = {"id": "easy", "name": "Easy", "provider": "pretend", "provider_app_id": "any"}
        assert (await admin.ask("POST", "/apps", app)).status == 201

    async with PhoneClient(broker.url, "root", app="easy") as phone:
        opened = phone.session
    browser, new_login = await begin_at(broker, "easy")
    await browser.close()

    assert opened["error"] == new_login["error"] == "temporarily_unavailable"

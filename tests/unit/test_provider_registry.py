"""Each app has the provider of its own account, and nobody else's."""

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


class Provider(PretendProvider):
    """One to look at: whether it is open."""

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(phone_page_url="http://phone.example/")
        self.account = account
        self.is_open = False

    async def open(self) -> None:
        await asyncio.sleep(0)  # long enough for another to come in between
        assert not self.is_open
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class Book:
    """Apps and their secrets, to be changed."""

    def __init__(self, *apps: App, **secrets: str) -> None:
        self.apps = {app.id: app for app in apps}
        self.secrets = secrets

    async def get(self, app_id: str) -> App | None:
        return self.apps.get(app_id)

    def with_pool(self) -> Collection[App]:
        return ()

    def origins(self) -> frozenset[str]:
        return frozenset()

    def provider_secret(self, app_id: str) -> str | None:
        return self.secrets.get(app_id)

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        return False


@pytest.fixture
def book() -> Book:
    return Book(
        replace(SHOP, provider_app_id="shop-there"),
        replace(OTHER, provider_app_id="other-there"),
        shop="one",
        other="two",
    )


@pytest.fixture
async def accounts(book: Book) -> AsyncIterator[ProviderRegistry]:
    own = [ProviderAccount("pretend", "ours")]
    accounts = ProviderRegistry(
        apps=book, secrets=book, default_accounts=own, factories={"pretend": Provider}
    )
    await accounts.open()
    yield accounts
    await accounts.close()


async def of(accounts: ProviderRegistry, app: App) -> Provider:
    provider = await accounts.get(app)
    assert isinstance(provider, Provider)
    return provider


async def test_each_app_has_the_provider_of_its_account(
    accounts: ProviderRegistry, book: Book
) -> None:
    shop, other = [await of(accounts, book.apps[name]) for name in ("shop", "other")]

    assert shop.account == ProviderAccount("pretend", "shop-there", "one")
    assert other.account == ProviderAccount("pretend", "other-there", "two")
    assert shop.is_open
    assert other.is_open


async def test_however_many_ask_at_once_one_provider_is_made(
    accounts: ProviderRegistry, book: Book
) -> None:
    made = await asyncio.gather(*(of(accounts, book.apps["shop"]) for _ in range(20)))

    assert len(set(map(id, made))) == 1


async def test_apps_with_one_account_share_a_provider(
    accounts: ProviderRegistry, book: Book
) -> None:
    book.apps["other"] = replace(book.apps["other"], provider_app_id="shop-there")
    book.secrets["other"] = "one"

    assert await of(accounts, book.apps["shop"]) is await of(accounts, book.apps["other"])


async def test_an_app_without_an_account_uses_the_settings(accounts: ProviderRegistry) -> None:
    assert (await of(accounts, App(id="bare", name="Bare", origins=frozenset()))).account == (
        ProviderAccount("pretend", "ours")
    )


async def test_a_changed_account_has_another_provider_and_the_former_ends_later(
    accounts: ProviderRegistry, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_DELAY", 0.05)
    former = await of(accounts, book.apps["shop"])
    neighbour = await of(accounts, book.apps["other"])

    book.secrets["shop"] = "newer"
    book.apps["shop"] = replace(book.apps["shop"])  # as it is read again after any change
    latter = await of(accounts, book.apps["shop"])
    was_open = former.is_open

    assert latter.account.secret == "newer"
    assert was_open  # a draw may be under way
    await eventually(lambda: not former.is_open)
    assert neighbour.is_open


async def test_an_app_that_changes_elsewhere_keeps_its_provider(
    accounts: ProviderRegistry, book: Book
) -> None:
    former = await of(accounts, book.apps["shop"])
    book.apps["shop"] = replace(book.apps["shop"], name="Another name")

    assert await of(accounts, book.apps["shop"]) is former


async def test_the_provider_of_an_app_that_is_gone_ends(
    accounts: ProviderRegistry, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_DELAY", 0.05)
    gone = book.apps.pop("shop")

    provider = await of(accounts, gone)  # a login that was under way
    await of(accounts, book.apps["other"])

    await eventually(lambda: not provider.is_open)


async def test_closing_waits_for_no_former_provider(
    accounts: ProviderRegistry, book: Book, still_clock: LoopClock
) -> None:
    former = await of(accounts, book.apps["shop"])
    book.apps["shop"] = replace(book.apps["shop"], provider_app_id="elsewhere")
    latter = await of(accounts, book.apps["shop"])

    await accounts.close()  # the clock stands still, so this waits for no time

    assert not former.is_open
    assert not latter.is_open


@pytest.mark.parametrize(
    ("provider", "reason"),
    [("weixin", "there is no provider 'weixin'"), ("wechat", "neither the app odd nor the")],
)
async def test_an_app_without_a_provider_is_refused_and_logged_once(
    accounts: ProviderRegistry,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    reason: str,
) -> None:
    app_id = "x" if provider == "weixin" else ""
    app = App(id="odd", name="Odd", origins=frozenset(), provider=provider, provider_app_id=app_id)

    monkeypatch.setattr(module, "log", structlog.get_logger())  # one that is bound to no setting
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(ProviderUnavailable) as failure:
                await accounts.get(app)

    assert reason in failure.value.reason
    assert [entry["app"] for entry in logs] == ["odd"]


def test_the_secret_of_an_account_is_in_no_repr() -> None:
    assert "hush" not in repr(ProviderAccount("wechat", APPID, "hush"))


# --- over the wire


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        wechat.wechat.platform.programs[RED] = MiniProgram(RED, RED_SECRET)
        yield wechat


async def begun_at(broker: RunningBroker, app: str) -> tuple[PythonBrowser, dict[str, str]]:
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url, {"app": app})
    return browser, await begin(browser)


async def test_two_mini_programs_in_one_broker(
    wechat: Pretending, start_broker: StartBroker
) -> None:
    broker = await start_broker(**wechat.settings(admin_token=TOKEN))
    admin = Admin(broker.admin)
    red = {"id": "red", "name": "Red", "provider_app_id": RED, "provider_secret": RED_SECRET}
    assert (await admin.ask("POST", "/apps", red)).status == 201
    browser, new_login = await begun_at(broker, "red")
    platform = wechat.wechat.platform

    # The code opens Red's program, and only a phone in that program can prove itself to Red.
    scene = scanned(new_login)["scene"]
    async with PhoneClient(
        broker.url, js_code=platform.login("alice", APPID), app="red"
    ) as stranger:
        assert stranger.session["error"] == "invalid_session"
    await confirm(broker.url, scene, platform.login("alice", RED), app="red")
    redeemed = await browser.emit(
        "redeem", {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    )
    await browser.close()
    await admin.http.close()

    assert redeemed["subject"].startswith("wechat:")
    assert wechat.wechat.calls["stable_token"] == 2  # one for each of the programs
    assert {SECRET, RED_SECRET}.isdisjoint(str(redeemed))


async def test_an_app_cannot_pretend_where_the_broker_may_not(
    wechat: Pretending, start_broker: StartBroker
) -> None:
    """Whoever may write apps down must not open the broker to everybody by a slip."""
    broker = await start_broker(
        **wechat.settings(admin_token=TOKEN, public_url="https://login.example")
    )
    admin = Admin(broker.admin)
    app = {"id": "easy", "name": "Easy", "provider": "pretend", "provider_app_id": "any"}
    assert (await admin.ask("POST", "/apps", app)).status == 201

    async with PhoneClient(broker.url, "root", app="easy") as phone:
        opened = phone.session
    browser, new_login = await begun_at(broker, "easy")
    await browser.close()
    await admin.http.close()

    assert opened["error"] == new_login["error"] == "temporarily_unavailable"

"""Apps whose codes the phones of another app scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.identity.model import Identity, Phone
from broker.login.errors import UnknownLogin, UnknownScene
from tests.support.builders import ALICE, FIREFOX, OTHER, SHOP, LoginMethods

WIKI = replace(SHOP, id="wiki", phone_app="shop")

APPS = [SHOP, OTHER, WIKI]

MakeService = Callable[..., LoginMethods]


async def test_phone_of_the_phone_app_confirms_a_login(make_login_service: MakeService) -> None:
    service = make_login_service(apps=APPS)
    login, secret, *_ = await service.begin("wiki", FIREFOX, has_socket=True)

    scanned = await service.scan(login.scene, ALICE)
    await service.confirm(login.id, ALICE)
    redeemed = await service.redeem(login.id, secret, app="wiki")

    assert scanned.app == WIKI
    assert redeemed.login.subject == "pretend:alice"


@pytest.mark.parametrize("app", ["wiki", "other"])
async def test_phone_of_no_other_app_scans_a_login(
    make_login_service: MakeService, app: str
) -> None:
    service = make_login_service(apps=APPS)
    login, *_ = await service.begin("wiki", FIREFOX, has_socket=True)
    phone = Phone(app, Identity("pretend", "alice"))

    with pytest.raises(UnknownScene):
        await service.scan(login.scene, phone)
    with pytest.raises(UnknownLogin):
        await service.confirm(login.id, phone)


@pytest.mark.parametrize("own", [None, "wiki://login?s={scene}"])
async def test_login_opens_the_app_of_its_phones(
    make_login_service: MakeService, own: str | None
) -> None:
    shop = replace(SHOP, open_url="shop://login?s={scene}")
    service = make_login_service(apps=[shop, replace(WIKI, open_url=own)])

    new_login = await service.begin("wiki", FIREFOX, has_socket=True)

    url = own or "shop://login?s={scene}"
    assert new_login.open_url == url.replace("{scene}", new_login.login.scene)


async def test_phone_app_is_not_mutual(make_login_service: MakeService) -> None:
    service = make_login_service(apps=APPS)
    login, *_ = await service.begin("shop", FIREFOX, has_socket=True)

    with pytest.raises(UnknownScene):
        await service.scan(login.scene, Phone("wiki", Identity("pretend", "alice")))

"""A phone reaches only the sign-ins of its person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.oidc_browser import new_person
from tests.support.oidc_site import a_site


@pytest.mark.parametrize("path", ["signins/{sid}", "signins"])
async def test_another_person_ends_no_sign_in(
    start_broker: StartBroker, tmp_path: Path, path: str
) -> None:
    fields: dict[str, Any] = {"sso": True, "scopes": ["openid", "profile", "offline_access"]}
    async with a_site(start_broker, tmp_path, **fields) as (site, browser):
        tokens = await site.signed_in(browser, scope="openid offline_access")
        async with PhoneClient(site.provider.phones, new_person()) as stranger:
            listed = await stranger.get("signins")
            ended = await stranger.delete(path.format(sid=tokens["claims"]["sid"]))

        assert listed.body == {"signins": []}
        assert ended.body == {"ended": 0}
        assert (await site.refresh(tokens["refresh_token"]))[0] == 200
        assert "code=" in await browser.redirect_of(site.url(prompt="none"))


async def test_sign_ins_need_a_session(start_broker: StartBroker, tmp_path: Path) -> None:
    async with a_site(start_broker, tmp_path) as (site, browser):
        for method in ("GET", "DELETE"):
            url = f"{site.provider.issuer}/phone/signins"
            async with browser.http.request(method, url) as response:
                assert response.status == 401

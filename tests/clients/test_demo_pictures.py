"""The account page of the example site shows the picture from the mini program."""

from __future__ import annotations

import html
import re
from pathlib import Path

import aiohttp

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.app_admin import TOKEN
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.files import PNG, file_form, session_headers, upload
from tests.support.logins import token_of
from web_demo.pictures import Pictures
from web_demo.site import build_site


async def test_account_page_shows_the_newest_picture(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await start_broker(files_url=(tmp_path / "files").as_uri(), admin_token=TOKEN)
    pictures = Pictures(broker=broker.url, app="default", authorization=f"Bearer {TOKEN}")
    application = build_site(broker_url=broker.url, pictures=pictures)
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address that is a number
    async with (
        serve_sites([Site("site", application, "127.0.0.1", 0, "PORT")]) as addresses,
        aiohttp.ClientSession(addresses["site"], cookie_jar=jar) as site,
        aiohttp.ClientSession(broker.url) as http,
        PhoneClient(broker.url) as phone,
    ):
        headers = session_headers(phone)
        for content, purpose in ((PNG, "avatar"), (PNG + b"new", "avatar"), (PNG, "other")):
            await upload(http, headers, file_form(content, purpose=purpose))
        body = {"access_token": await token_of(broker)}
        await site.post("/session", json=body, headers={"Origin": addresses["site"]})

        async with site.get("/account") as response:
            [url] = re.findall(r'<div class="person">\s*<img src="([^"]+)"', await response.text())
        async with http.get(html.unescape(url)) as response:
            assert await response.read() == PNG + b"new"

"""The page of the HTTP API at the admin port: its headers, its files and its documents."""

from __future__ import annotations

import hashlib

import aiohttp
import pytest

from broker.admin.reference_api import FILES, STATIC
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(admin_token=TOKEN)


async def test_page_allows_no_inline_code_and_no_other_host(broker: RunningBroker) -> None:
    async with aiohttp.ClientSession(broker.admin) as http, http.get("/api") as page:
        policy, text = page.headers["Content-Security-Policy"], await page.text()

    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert TOKEN not in text
    assert "://" not in text


async def test_files_of_the_page_are_served_and_revalidated(broker: RunningBroker) -> None:
    async with aiohttp.ClientSession(broker.admin) as http:
        for name, (path, media_type) in FILES.items():
            async with http.get(f"/api/{name}") as response:
                assert await response.read() == path.read_bytes()
                assert response.content_type == media_type
                tag = response.headers["ETag"]
            async with http.get(f"/api/{name}", headers={"If-None-Match": tag}) as response:
                assert response.status == 304
        for name in ("admin.js", "swagger-ui.LICENSE", "..%2fadmin.html"):
            async with http.get(f"/api/{name}") as response:
                assert response.status == 404


async def test_admin_port_serves_the_public_document(broker: RunningBroker) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{broker.url}/openapi.json") as response:
            public = await response.json()
        async with http.get(f"{broker.admin}/openapi-public.json") as response:
            copy = await response.json()

    assert copy == public
    assert public["servers"][0]["url"] == broker.url


@pytest.mark.parametrize(
    ("file", "digest"),
    [
        (
            "swagger-ui-bundle.js",
            "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
        ),
        ("swagger-ui.css", "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d"),
        ("swagger-ui.LICENSE", "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"),
    ],
)
def test_vendored_viewer_equals_its_release(file: str, digest: str) -> None:
    """The files of the npm package swagger-ui-dist 5.35.0."""
    assert hashlib.sha256((STATIC / "vendor" / file).read_bytes()).hexdigest() == digest

"""Tests of the authorization server metadata (RFC 8414), with a client library."""

from __future__ import annotations

import aiohttp
import jwt
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url

from tests.support.builders import RunningBroker, StartBroker
from tests.support.device_flow import GRANT

ISSUERS = ["http://127.0.0.1:8000", "http://127.0.0.1:8000/login-broker"]


async def metadata_of(broker: RunningBroker, issuer: str) -> AuthorizationServerMetadata:
    """Return the metadata from the URL of RFC 8414, behind a proxy that keeps the path."""
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get(get_well_known_url(issuer)) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("application/json")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cache-Control"] == "public, max-age=300"
        return AuthorizationServerMetadata(await response.json())


@pytest.mark.parametrize("issuer", ISSUERS, ids=["root", "sub-path"])
async def test_metadata_is_at_the_issuer_path(start_broker: StartBroker, issuer: str) -> None:
    metadata = await metadata_of(await start_broker(public_url=issuer), issuer)

    assert metadata["issuer"] == issuer
    assert metadata["token_endpoint"] == f"{issuer}/oauth/token"
    assert metadata["device_authorization_endpoint"] == f"{issuer}/oauth/device_authorization"
    assert metadata["jwks_uri"] == f"{issuer}/.well-known/jwks.json"
    assert metadata["authorization_endpoint"] == f"{issuer}/oauth/authorize"
    assert metadata["response_types_supported"] == ["code"]


async def test_endpoints_in_the_metadata_answer(broker: RunningBroker) -> None:
    metadata = await metadata_of(broker, broker.url)
    client = {"client_id": "default"}

    async with aiohttp.ClientSession() as http:
        async with http.post(metadata["device_authorization_endpoint"], data=client) as response:
            new_login = await response.json()
        assert GRANT in metadata["grant_types_supported"]
        form = {**client, "grant_type": GRANT, "device_code": new_login["device_code"]}
        async with http.post(metadata["token_endpoint"], data=form) as response:
            assert (await response.json())["error"] == "authorization_pending"
        async with http.get(metadata["jwks_uri"]) as response:
            assert len(jwt.PyJWKSet.from_dict(await response.json()).keys) == 4


async def test_metadata_passes_the_checks_of_authlib(start_broker: StartBroker) -> None:
    issuer = "https://login.example"
    broker = await start_broker(public_url=issuer, allow_pretend=True)
    metadata = await metadata_of(broker, issuer)

    metadata.validate()


@pytest.mark.parametrize("issuer", ISSUERS, ids=["root", "sub-path"])
async def test_every_discovery_url_begins_with_the_issuer(
    start_broker: StartBroker, issuer: str
) -> None:
    broker = await start_broker(public_url=issuer)
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}

    async with (
        aiohttp.ClientSession(broker.url, headers=forged) as http,
        http.get("/.well-known/openid-configuration") as response,
    ):
        document = await response.json()

    urls = [url for url in document.values() if str(url).startswith("http")]
    assert document["issuer"] == issuer
    assert len(urls) > 8
    assert all(url.startswith(issuer) for url in urls)


async def test_both_metadata_documents_are_equal(broker: RunningBroker) -> None:
    documents = []
    async with aiohttp.ClientSession(broker.url) as http:
        for name in ("openid-configuration", "oauth-authorization-server"):
            async with http.get(f"/.well-known/{name}") as response:
                documents.append(await response.json())

    assert documents[0] == documents[1]


async def test_insecure_public_url_disables_openid_connect(start_broker: StartBroker) -> None:
    issuer = "http://login.example"
    broker = await start_broker(public_url=issuer, allow_pretend=True)

    metadata = await metadata_of(broker, issuer)

    assert metadata["grant_types_supported"] == [GRANT]
    assert metadata["response_types_supported"] == []
    async with aiohttp.ClientSession(broker.url) as http:
        for path in ("/.well-known/openid-configuration", "/oauth/authorize"):
            async with http.get(path) as response:
                assert response.status in (404, 405)

"""Check of the metadata and of the key set, as a product reads them at the public URL."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from broker.cli.checks import keys
from broker.cli.checks.model import Failed, Installation, reason_of
from broker.cli.checks.public_url import trust


async def check_issuer(installation: Installation) -> str:
    metadata = await _metadata(installation)
    issuer, expected = metadata.get("issuer"), installation.server.public_url
    if issuer != expected:
        raise Failed(f"the issuer is {issuer}, and the public URL is {expected}")
    return f"the issuer is {issuer}"


async def check_key_set(installation: Installation) -> str:
    metadata = await _metadata(installation)
    key_set = await _get(installation, str(metadata.get("jwks_uri")))
    published = {key.get("kid") for key in _members(key_set, "keys")}
    rings = keys.load(installation)
    own = {ring.present["kid"] for ring in rings.all.values()} if rings else set()
    if not published:
        raise Failed("the key set is empty")
    if not own <= published:
        raise Failed("the key set lacks the signing keys of the key file")
    return f"the key set has {len(published)} keys"


def _members(fields: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    found = fields.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


async def _metadata(installation: Installation) -> Mapping[str, object]:
    name = (
        "oauth-authorization-server"
        if installation.server.insecure_reason()
        else ("openid-configuration")
    )
    return await _get(installation, f"{installation.server.public_url}/.well-known/{name}")


async def _get(installation: Installation, url: str) -> Mapping[str, object]:
    try:
        async with installation.http.get(url, ssl=trust(installation)) as response:
            content = await response.json()
    except (aiohttp.ClientError, ValueError) as error:
        raise Failed(f"GET {url}: {reason_of(error)}") from None
    if not isinstance(content, dict):
        raise Failed(f"GET {url} has no JSON object")
    return content

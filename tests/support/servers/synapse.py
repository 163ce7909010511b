"""Synapse, a Matrix homeserver."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.interop import program_of, running_product

NAME = "matrix.example"
"""The name of the homeserver, which is part of every user id."""

SERVER = """
server_name: {name}
public_baseurl: {url}/
listeners:
- port: {port}
  type: http
  bind_addresses: [127.0.0.1]
  resources: [{{ names: [client] }}]
database: {{ name: sqlite3, args: {{ database: {folder}/homeserver.db }} }}
media_store_path: {folder}/media
signing_key: "ed25519 test {signing_key}"
macaroon_secret_key: a-macaroon-secret-of-this-test
form_secret: a-form-secret-of-this-test
report_stats: false
trusted_key_servers: []
"""

LOOPBACK = "- idp_id: scan-login\n"
"""The first line of the provider."""


@asynccontextmanager
async def running_synapse(folder: Path, port: int, configuration: str) -> AsyncIterator[str]:
    """Run Synapse with the provider in `configuration`; yields its URL.

    Synapse checks that an issuer is https. `skip_verification` allows one on the loopback address.
    """
    program = program_of("synapse", "synapse_homeserver")
    folder.mkdir()
    url = f"http://127.0.0.1:{port}"
    provider = configuration.replace(LOOPBACK, f"{LOOPBACK}  skip_verification: true\n")
    signing_key = base64.b64encode(os.urandom(32)).decode().rstrip("=")
    server = SERVER.format(name=NAME, url=url, port=port, folder=folder, signing_key=signing_key)
    (folder / "homeserver.yaml").write_text(server + provider)
    async with running_product([program, "-c", "homeserver.yaml"], folder, f"{url}/health"):
        yield url

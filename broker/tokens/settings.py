"""Settings of tokens and their signing keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from broker.infrastructure.settings import Seconds, SettingsGroup, one_of
from broker.tokens.keys import ALGORITHMS


class TokenSettings(SettingsGroup):
    token_lifetime: Seconds = Field(600, description="lifetime of a token, in seconds")
    token_algorithm: Annotated[str, one_of(ALGORITHMS)] = Field(
        "ES256", description="signing algorithm of tokens"
    )
    key_file: Path = Field(
        Path("scan-login-keys.json"),
        description="file with the signing keys of tokens; created at the first start",
    )

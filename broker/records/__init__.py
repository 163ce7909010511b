"""What outlives a restart: apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One site that logs people in.

    id: what browsers and phones call it; the token's audience.
    name: what the person reads on the phone before confirming.
    origins: exact Origins whose pages may begin a login (`https://shop.example`).
    register_url: where an unknown person is sent; None where nobody can register.
    """

    id: str
    name: str
    origins: frozenset[str]
    register_url: str | None = None


class Apps(Protocol):
    async def get(self, app_id: str) -> App | None:
        """The app, or None."""

    def origins(self) -> frozenset[str]:
        """Every origin that any app allows."""

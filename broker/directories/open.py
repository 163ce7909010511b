"""Everyone is welcome: whoever the provider proves is somebody here."""

from __future__ import annotations

from broker.identity.model import Identity


class OpenDirectory:
    async def open(self) -> None:
        """Nothing: it asks nobody."""

    async def close(self) -> None:
        """Nothing."""

    async def find(self, identity: Identity) -> str:
        # Two providers may use the same id for two people.
        return f"{identity.provider}:{identity.id}"

"""Codes of invitations, which a phone scans like the code of a login."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.identity.ports import CodePicture
from broker.identity.registry import ProviderRegistry
from broker.users.errors import InvalidUser
from broker.users.model import Invitation


class InvitationCode(NamedTuple):
    """link: the URL in the code; None if it has none."""

    picture: CodePicture
    link: str | None


class InvitationCodes:
    """Draws codes by the provider of an app."""

    def __init__(self, *, apps: Apps, providers: ProviderRegistry) -> None:
        self._apps = apps
        self._providers = providers

    def require_app(self, app_id: object) -> App:
        """Raises InvalidUser for an unknown app."""
        app = self._apps.get(app_id) if isinstance(app_id, str) else None
        if app is None:
            raise InvalidUser(["app: no app has this id"])
        return app

    async def draw(self, invitation: Invitation, app: App) -> InvitationCode | None:
        """Return the code, or None if the provider cannot draw it now."""
        try:
            provider = await self._providers.get(app)
            picture = await provider.draw(invitation.scene)
        except Unavailable:  # the invitation works without a code
            return None
        return InvitationCode(picture, provider.link(invitation.scene))

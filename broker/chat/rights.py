"""Rights of a connection in a room."""

from __future__ import annotations

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.chat.admission import Admission, Applicant
from broker.chat.connections import Connection
from broker.chat.conversations import Target
from broker.chat.errors import ChatDisabled, NotAMember
from broker.chat.rules import PAIRS, SAY


class Rights:
    """Reads the rights of a connection: from its joined rooms, and for pairs from the app."""

    def __init__(self, *, apps: Apps, admission: Admission) -> None:
        self._apps = apps
        self._admission = admission

    async def admit(self, connection: Connection, target: Target) -> frozenset[str]:
        """Return what a person may do who joins the room now.

        Raises ChatDenied, UnknownRoom, AdmissionUnavailable or ChatDisabled.
        """
        app = self._app(connection)
        applicant = Applicant(connection.person.subject, connection.session.openid)
        if not target.peer:
            return await self._admission.admit(app, target.key.name, applicant)
        return await self._admission.admit(app, PAIRS, applicant) & {SAY}

    async def of(self, connection: Connection, target: Target) -> frozenset[str]:
        """Return what the connection may do. Raises NotAMember, or why a pair is not admitted."""
        if target.peer:
            return await self.admit(connection, target)
        self.check_joined(connection, target)
        return connection.rooms[target.key.name]

    def check_joined(self, connection: Connection, target: Target) -> None:
        if target.key.name not in connection.rooms:
            raise NotAMember

    def _app(self, connection: Connection) -> App:
        app = self._apps.get(connection.session.app)
        if app is None or app.incarnation != connection.session.incarnation:
            raise ChatDisabled
        return app

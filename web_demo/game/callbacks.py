"""The broker's callbacks: verified, processed once, and passed to the lobby.

Only the broker can sign a callback, and its `subject` is that of the tunnel. So a client cannot
act as another person, whatever it sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from standardwebhooks import Webhook, WebhookVerificationError

from .lobby import Lobby, Player
from .match import Refused

GROUP = "players"
"""The group of all tunnels of the game."""

REMEMBERED_SECONDS = 600.0
"""How long the last callback of a tunnel is known. A signature is valid for 5 minutes."""

NAME_MAX = 64

Fields = Mapping[str, Any]

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """fields: the JSON body; None for none."""

    status: int
    fields: Fields | None = None


class LastCallback(NamedTuple):
    seq: int
    answer: Answer
    received_at: float


def refusal(error: str, description: str, status: int = 409) -> Answer:
    return Answer(status, {"error": error, "error_description": description})


class GameCallbacks:
    """Answers the callbacks of one app.

    secret: the app's webhook secret, `whsec_…`.
    end: ends a tunnel that a newer one replaces.
    """

    def __init__(self, *, app: str, secret: str, lobby: Lobby, end: Callable[[str], None]) -> None:
        self._app = app
        self._webhook = Webhook(secret)
        self._lobby = lobby
        self._end = end
        self._last: dict[str, LastCallback] = {}

    def receive(self, body: bytes, headers: Mapping[str, str], now: float) -> Answer:
        """Verify and process a callback. A repeat gets the answer that it had."""
        try:
            callback = self._webhook.verify(body, dict(headers))
            kind, data = callback["type"], callback["data"]
        except (WebhookVerificationError, ValueError, KeyError, TypeError) as error:
            log.warning("callback refused: error=%s", error)
            return refusal("invalid_signature", "the callback is not signed by the broker", 401)
        if kind == "tunnel.verify":
            return Answer(200, {"challenge": data["challenge"]})
        if data["app"] != self._app or kind not in KINDS:
            return refusal("invalid_request", "the callback is not for this game", 400)
        return self._once(kind, data, now)

    def _once(self, kind: str, data: Fields, now: float) -> Answer:
        tunnel_id, seq = data["tunnel_id"], data["seq"]
        last = self._last.get(tunnel_id)
        if last is not None and seq <= last.seq:
            if seq == last.seq:
                return last.answer
            return refusal("replayed", "a later callback of this tunnel was processed")
        try:
            answer = KINDS[kind](self, data, now)
        except Refused as refused:
            answer = refusal(refused.error, refused.description)
        self._last.pop(tunnel_id, None)  # the oldest is the first
        self._last[tunnel_id] = LastCallback(seq, answer, now)
        self._forget(now - REMEMBERED_SECONDS)
        return answer

    def _forget(self, before: float) -> None:
        """Remove what no valid signature can repeat."""
        while (oldest := next(iter(self._last))) and self._last[oldest].received_at < before:
            del self._last[oldest]

    def _opened(self, data: Fields, now: float) -> Answer:
        subject, tunnel_id = data.get("subject"), data["tunnel_id"]
        if not subject:
            return refusal("access_denied", "register before you play", 403)
        player = self._lobby.find(subject)
        if data["resumed"] and player is not None and player.tunnel_id != tunnel_id:
            return refusal("replaced", "the person plays on another page", 403)
        former = self._lobby.attach(subject, name_of(data), tunnel_id, now)
        if former is not None:
            self._end(former)
        return Answer(200, {"groups": [GROUP]})

    def _said(self, data: Fields, now: float) -> Answer:
        player = self._seated(data, now)
        fields = data["data"]
        self._lobby.act(player, fields if isinstance(fields, dict) else {}, now)
        return Answer(200, {"reply": self._lobby.view(player, now)})

    def _closed(self, data: Fields, now: float) -> Answer:
        player = self._lobby.find(data.get("subject", ""))
        if player is not None and player.tunnel_id == data["tunnel_id"]:
            self._lobby.detach(player, now)
        return Answer(204)

    def _seated(self, data: Fields, now: float) -> Player:
        """Return the person of a message. A tunnel that is older than this server gets a seat."""
        subject, tunnel_id = data["subject"], data["tunnel_id"]
        player = self._lobby.find(subject)
        if player is None:
            self._lobby.attach(subject, name_of(data), tunnel_id, now)
            player = self._lobby.find(subject)
        assert player is not None
        if player.tunnel_id != tunnel_id:
            raise Refused("replaced", "the person plays on another page")
        return player


KINDS: Mapping[str, Callable[[GameCallbacks, Fields, float], Answer]] = {
    "tunnel.open": GameCallbacks._opened,
    "tunnel.message": GameCallbacks._said,
    "tunnel.close": GameCallbacks._closed,
}


def name_of(data: Fields) -> str:
    """Return the name that others see. A subject is `<provider>:<id>`."""
    subject: str = data["subject"]
    name: str = data["meta"].get("name") or subject.partition(":")[2] or subject
    return name[:NAME_MAX]

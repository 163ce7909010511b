"""Metrics of chat. No label has a room, a subject or a text."""

from __future__ import annotations

from broker.infrastructure.observability.metrics import Counter, Gauge

CONNECTIONS = Gauge("scanlogin_chat_connections", "Chat connections at this instance", ["app"])

ROOMS = Gauge("scanlogin_chat_rooms", "Rooms with connections at this instance", ["app"])

MESSAGES = Counter("scanlogin_chat_messages", "Messages that were stored", ["app"])

DELIVERED = Counter("scanlogin_chat_delivered", "Messages that were sent to connections", ["app"])

RECOVERIES = Counter(
    "scanlogin_chat_recoveries", "Joins with an offset by outcome", ["app", "outcome"]
)

REFUSED = Counter("scanlogin_chat_refused", "Refused chat requests by error", ["app", "error"])

ADMISSIONS = Counter(
    "scanlogin_chat_admissions", "Answers to requests for admission to rooms", ["outcome"]
)

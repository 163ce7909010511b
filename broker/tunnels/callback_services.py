"""Creates the parts that send callbacks."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.ports import Apps, WebhookSecrets
from broker.infrastructure.clock import Clock
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.outbound.keep_alive import KeepAliveClient
from broker.infrastructure.retries import RetryWorker
from broker.tunnels.callback_sender import CallbackSender, NativeFormat
from broker.tunnels.callbacks import CLOSE_CALL, NativeCallbacks
from broker.tunnels.deferred_closes import CLOSE_DELAYS
from broker.tunnels.ports import TunnelStore


class CallbackServices(NamedTuple):
    """client: is opened before the first callback.  native: the callbacks of native tunnels."""

    client: KeepAliveClient
    native: NativeCallbacks


def create_callback_services(
    *,
    apps: Apps,
    secrets: WebhookSecrets,
    records: TunnelStore,
    retries: RetryWorker,
    turns: FairQueue,
    clock: Clock,
    allow_private_address: bool,
) -> CallbackServices:
    """Create the services. They make the deferred calls of `tunnel.close`."""
    client = KeepAliveClient(allow_private_address=allow_private_address)
    sender = CallbackSender(format=NativeFormat(secrets, clock), client=client, turns=turns)
    native = NativeCallbacks(apps=apps, sender=sender, records=records, retries=retries)
    retries.handle(CLOSE_CALL, native.send_scheduled, CLOSE_DELAYS)
    return CallbackServices(client, native)

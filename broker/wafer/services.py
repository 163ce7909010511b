"""Creates the parts that send Wafer's callbacks."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.ports import Apps, WaferKeys, WebhookSecrets
from broker.infrastructure.clock import Clock
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.outbound.keep_alive import KeepAliveClient
from broker.infrastructure.retries import RetryWorker
from broker.tunnels.callback_sender import CallbackSender
from broker.tunnels.deferred_closes import CLOSE_DELAYS
from broker.tunnels.ports import TunnelStore
from broker.wafer.callbacks import CLOSE_CALL, WaferCallbacks, WaferFormat


class WaferServices(NamedTuple):
    """client: is opened before the first callback."""

    client: KeepAliveClient
    callbacks: WaferCallbacks


def create_wafer_services(
    *,
    apps: Apps,
    keys: WaferKeys,
    secrets: WebhookSecrets,
    records: TunnelStore,
    retries: RetryWorker,
    turns: FairQueue,
    clock: Clock,
    allow_private_address: bool,
) -> WaferServices:
    """Create the services. They make the deferred calls of the callback `close`."""
    client = KeepAliveClient(allow_private_address=allow_private_address)
    sender = CallbackSender(format=WaferFormat(keys, secrets, clock), client=client, turns=turns)
    callbacks = WaferCallbacks(apps=apps, sender=sender, records=records, retries=retries)
    retries.handle(CLOSE_CALL, callbacks.send_scheduled, CLOSE_DELAYS)
    return WaferServices(client, callbacks)

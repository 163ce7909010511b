"""Reports to the service manager that the process is ready (`Type=notify` of systemd)."""

from __future__ import annotations

import os
import socket

import structlog

log = structlog.get_logger()

READY = "READY=1"
"""The start is complete (sd_notify(3))."""

NOTIFY_SOCKET = "NOTIFY_SOCKET"
"""The variable with the address of the service manager: a path, or an abstract name after `@`."""


def notify_service_manager(state: str) -> None:
    """Send `state` to the service manager. Does nothing if there is none.

    A failure is logged: the service manager ends a process that does not report in time.
    """
    address = os.environ.get(NOTIFY_SOCKET)
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.setblocking(False)
            client.sendto(state.encode(), address)
    except OSError as error:
        log.warning("service manager not notified", reason=str(error))

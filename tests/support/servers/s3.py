"""An S3 service: moto."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3
import requests

from tests.support.environment import free_port
from tests.support.waiting import (
    START_TIMEOUT,
    listens,
    wait_for_start,
)


class S3Server:
    """A moto server, which keeps its objects in memory.

    asks_for_proof: whether it refuses unknown access keys; otherwise it accepts any.
    """

    def __init__(self, *, asks_for_proof: bool = False) -> None:
        self.port = free_port()
        self._auth_environment = {"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if asks_for_proof else {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and return when it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self._auth_environment},
        )
        wait_for_start(self._process, lambda: listens(self.port))

    def make_bucket(self, name: str) -> None:
        requests.put(f"{self.url}/{name}", timeout=START_TIMEOUT).raise_for_status()

    def head(self, bucket: str, key: str) -> Mapping[str, str]:
        """Return the metadata of an object, independent of the broker."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        return client.head_object(Bucket=bucket, Key=key)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_TIMEOUT)

    def pause(self) -> None:
        """Pause the server with SIGSTOP: connections are accepted without answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)


@contextmanager
def running_s3(*, asks_for_proof: bool = False) -> Iterator[S3Server]:
    server = S3Server(asks_for_proof=asks_for_proof)
    server.start()
    try:
        yield server
    finally:
        server.stop()

"""The picture that a person has uploaded in the mini program."""

import logging
from typing import Any

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=3)

PURPOSE = "avatar"

log = logging.getLogger(__name__)


class Pictures:
    """Reads a person's files at the broker, as a server of the mini program's app does.

    authorization: the header of the app's server, or of the operator with the admin token.
    """

    def __init__(self, *, broker: str, app: str, authorization: str) -> None:
        self._url = f"{broker.rstrip('/')}/files"
        self._app = app
        self._headers = {"Authorization": authorization}

    async def url_of(self, subject: str) -> str:
        """Return a URL of the newest picture, valid for minutes; empty if there is none.

        subject: `<provider>:<id>`.
        """
        query = {"app": self._app, "openid": subject.partition(":")[2] or subject}
        try:
            async with (
                aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT) as http,
                http.get(self._url, params=query, raise_for_status=True) as response,
            ):
                files: list[dict[str, Any]] = (await response.json())["files"]
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("picture unavailable: error=%s", type(error).__name__)
            return ""
        pictures = [file for file in files if file.get("purpose") == PURPOSE]
        return max(pictures, key=lambda file: file["created_at"])["url"] if pictures else ""

"""Countries of addresses, from an MMDB file of the operator. No file is shipped."""

from __future__ import annotations

import ipaddress
from importlib import import_module
from typing import Any, Protocol


class MMDBReader(Protocol):
    """The used part of `maxminddb.Reader`."""

    def get(self, ip_address: str) -> Any: ...

    def close(self) -> None: ...


class Countries:
    """Looks up ISO 3166-1 codes. Without a file it knows no country."""

    def __init__(self, reader: MMDBReader | None) -> None:
        self._reader = reader

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def find(self, ip: str) -> str | None:
        """Return the country of an address, or None if it is unknown."""
        try:
            row = self._reader.get(str(ipaddress.ip_address(ip))) if self._reader else None
        except ValueError:  # no address, IPv6 in a file of IPv4 addresses, or a damaged file
            return None
        country = row.get("country") if isinstance(row, dict) else None
        code = country.get("iso_code") if isinstance(country, dict) else None
        return code if isinstance(code, str) and code.isalpha() and len(code) == 2 else None


def open_countries(file: str | None) -> Countries:
    """Read an MMDB file into memory. Raises ValueError with the reason if it cannot be read."""
    if file is None:
        return Countries(None)
    try:
        maxminddb = import_module("maxminddb")
    except ImportError:
        raise ValueError("requires the package maxminddb: pip install scan-login[geo]") from None
    try:
        return Countries(maxminddb.open_database(file, maxminddb.MODE_MEMORY))
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RuntimeError):
        raise ValueError(f"{file} is not an MMDB file; download the country file again") from None

"""Check of the provider."""

from __future__ import annotations

from broker.apps.model import DEFAULT_APP
from broker.cli.checks.model import Failed, Installation
from broker.cli.openers import draw_test_code
from broker.identity.errors import ProviderUnavailable


async def check_draw(installation: Installation) -> str:
    """Draw a code. The error of WeChat contains its remedy."""
    records = installation.records or installation.unopened_records
    try:
        name = await draw_test_code(installation.settings, records, DEFAULT_APP)
    except ProviderUnavailable as error:
        raise Failed(error.reason) from None
    return f"the provider {name} draws codes"

"""Each provider, and relying parties that are registered with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.support.builders import StartBroker
from tests.support.oidc_browser import new_person
from tests.support.openid_agent import Agent, MakeParty, OpenIDProvider, RelyingParty
from tests.support.openid_broker import BrokerProvider, running_broker_provider
from tests.support.openid_certified import CertifiedProvider, running_certified_provider


@pytest.fixture(scope="session")
def certified_process() -> Iterator[CertifiedProvider]:
    with running_certified_provider() as provider:
        yield provider


@pytest.fixture
async def certified_provider(
    certified_process: CertifiedProvider,
) -> AsyncIterator[CertifiedProvider]:
    yield certified_process
    await certified_process.set_clock_ahead(0)


@pytest.fixture
async def broker_provider(start_broker: StartBroker) -> AsyncIterator[BrokerProvider]:
    async with running_broker_provider(start_broker) as provider:
        yield provider


@pytest.fixture(params=["broker_provider", "certified_provider"])
def op(request: pytest.FixtureRequest) -> OpenIDProvider:
    provider: OpenIDProvider = request.getfixturevalue(request.param)
    return provider


@pytest.fixture(params=["query", "form_post"])
def mode(request: pytest.FixtureRequest) -> str | None:
    """The `response_mode` of every request; None for the default, `query`."""
    return None if request.param == "query" else str(request.param)


@pytest.fixture
async def make_party(op: OpenIDProvider, mode: str | None) -> AsyncIterator[MakeParty]:
    """Add a relying party of the test's one user and browser."""
    async with AsyncExitStack() as stack:
        agent, person = await stack.enter_async_context(Agent()), new_person()

        async def make(**metadata: object) -> RelyingParty:
            client = await op.register(**metadata)
            party = RelyingParty(op, client, agent, person=person, mode=mode)
            return await stack.enter_async_context(party)

        yield make


@pytest.fixture
async def party(make_party: MakeParty) -> RelyingParty:
    return await make_party()

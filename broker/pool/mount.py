"""Mounts the pictures of codes and the scheduler that fills the pools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from broker.apps.ports import Apps
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted, Resource
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.observability.feed import Feed
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.pool import admin_api
from broker.pool.admin_api import PoolAdminAPI
from broker.pool.api import ENDPOINTS, PicturesAPI
from broker.pool.code_pool import CodePool
from broker.pool.dependencies import PoolDependencies, PoolLimits
from broker.pool.pictures import PictureCache
from broker.pool.ports import CodeLeases, CodeStore, PictureStore
from broker.pool.requested_fills import RequestedFills
from broker.pool.scheduler import PoolScheduler
from broker.pool.settings import PoolSettings


class PoolContext(Protocol):
    """login_lifetime, login_retention: seconds; a code stays reserved for both together.

    settings_apps: keys of the apps that are not in the records.
    """

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def settings_apps(self) -> Sequence[str]: ...
    @property
    def providers(self) -> ProviderRegistry: ...
    @property
    def code_pool(self) -> CodePool: ...
    @property
    def code_store(self) -> CodeStore: ...
    @property
    def code_leases(self) -> CodeLeases: ...
    @property
    def leader_leases(self) -> LeaderLeases: ...
    @property
    def picture_store(self) -> PictureStore: ...
    @property
    def login_lifetime(self) -> int: ...
    @property
    def login_retention(self) -> int: ...
    @property
    def addresses(self) -> ClientAddresses: ...
    @property
    def feed(self) -> Feed: ...
    @property
    def report(self) -> InstanceReport: ...
    @property
    def instance_notes(self) -> Callable[[str], Collection[str]]: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: PoolContext) -> Mounted:
    api = PicturesAPI(pictures=PictureCache(context.picture_store), addresses=context.addresses)
    dependencies = _dependencies(context)
    scheduler = PoolScheduler(
        apps=context.apps,
        dependencies=dependencies,
        codes_to_retire=context.code_pool.codes_to_retire,
        missed_leases=context.code_pool.missed_leases,
        settings_apps=context.settings_apps,
    )
    routes = bind_endpoints(api, ENDPOINTS)
    mounted = Mounted(routes=routes, tasks=[BackgroundTask("pool scheduler", scheduler.run)])
    return Mounted.join([mounted, _mount_administration(context, dependencies, scheduler)])


def _mount_administration(
    context: PoolContext, dependencies: PoolDependencies, scheduler: PoolScheduler
) -> Mounted:
    if context.operators is None:
        return Mounted()
    fills = RequestedFills(dependencies)
    api = PoolAdminAPI(
        apps=context.apps,
        leases=context.code_leases,
        reports=scheduler.reports,
        notes=context.instance_notes,
        fills=fills,
    )
    operator = {OPERATOR: context.operators.authenticate}
    return Mounted(
        admin_routes=bind_endpoints(api, admin_api.ENDPOINTS, operator),
        resources=[Resource(do_nothing, fills.close)],
    )


def _dependencies(context: PoolContext) -> PoolDependencies:
    return PoolDependencies(
        providers=context.providers,
        codes=context.code_store,
        pictures=context.picture_store,
        leases=context.code_leases,
        leader_leases=context.leader_leases,
        clock=context.clock,
        instance=context.settings[ServerSettings].instance,
        limits=_limits(context),
        feed=context.feed,
        report=context.report,
    )


def _limits(context: PoolContext) -> PoolLimits:
    group = context.settings[PoolSettings]
    return PoolLimits(
        login_lifetime=context.login_lifetime,
        retention=context.login_retention,
        cooldown=group.pool_rest,
        min_size=group.pool_size,
        max_size=group.pool_max,
        max_age=group.pool_age,
        per_minute=group.pool_per_minute,
    )

"""CPU of a sign-in at an OpenID Provider, and of the exchange of its code."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import judge, median_of
from bench.fleet import Fleet, Meter
from bench.load import LOST, gather_limited, run_concurrently
from bench.targets.oidc import BrokerOIDC, IssuedCode, OIDCProvider, SignInApp

CONCURRENCY = 16
BAR = 1.0
SAMPLES = 5
"""Sign-ins of which the commands are counted. Periodic work adds commands to some."""

CODE_BARS = {"broker-oidc": 2.2, "broker-oidc-es256": 1.5}
"""Milliseconds of CPU for the exchange of a code. One RS256 signature takes 0.66 ms."""

SIGN_IN, EXCHANGE, WHOLE = (
    "servers' CPU, ms from the request to the code",
    "servers' CPU, ms from the code to the tokens",
    "servers' CPU, ms per sign-in",
)


class OIDCSignIn(Benchmark):
    question = (
        "CPU of a sign-in with OpenID Connect over two instances: the authorization request, the "
        "sign-in of the person, and the exchange of the code for an ID token, an access token and "
        "a refresh token, with PKCE. A failed exchange ends the run. At the broker, the person "
        "scans and confirms at the other instance. At oidc-provider 9 (npm, certified), the "
        "person sends a name and a password, and its records are in the same kind of Redis. "
        "ID tokens are signed with RS256, those of broker-oidc-es256 with ES256. "
        f"{CONCURRENCY} sign-ins are in progress at a time. Bar: {BAR:g} of oidc-provider."
    )
    setups: Sequence[Setup] = [
        Setup(name, 2) for name in ("broker-oidc", "oidc-provider", "broker-oidc-es256")
    ]
    seconds = 10.0
    warms_up = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        target = fleet.target
        assert isinstance(target, BrokerOIDC | OIDCProvider)
        app = await target.app(fleet.urls)
        codes: list[IssuedCode] = []

        async def sign_in(number: int) -> float:
            codes.append(await app.sign_in(number))
            return 0.0

        async def exchange_all() -> int:
            """Exchange the codes that are left, and return how many there were."""
            issued = [*codes]
            codes.clear()
            await gather_limited(
                lambda number: app.exchange(number, issued[number]), range(len(issued))
            )
            return len(issued)

        await run_concurrently(sign_in, concurrency=CONCURRENCY, seconds=target.warm_up.seconds)
        await exchange_all()
        meter = Meter(fleet)
        began = time.perf_counter()
        result = await run_concurrently(sign_in, concurrency=CONCURRENCY, seconds=seconds)
        until_code, elapsed = meter.read(), time.perf_counter() - began
        meter = Meter(fleet)
        count = await exchange_all()
        until_token = meter.read()
        commands = [await self._redis_commands(fleet, app, number) for number in range(SAMPLES)]
        await app.close()
        first, second = until_code.servers / count, until_token.servers / count
        return {
            SIGN_IN: first,
            EXCHANGE: second,
            WHOLE: first + second,
            "Redis, ms per sign-in": (until_code.redis + until_token.redis) / count,
            "Redis commands per sign-in": min(commands),
            "sign-ins per second": count / elapsed,
            LOST: result.lost.total(),
        }

    async def _redis_commands(self, fleet: Fleet, app: SignInApp, number: int) -> int:
        async def sign_in() -> None:
            await app.exchange(number, await app.sign_in(number))

        return await fleet.redis_commands(sign_in)

    def verdict(self, runs: Runs) -> list[str]:
        lines = []
        peer = Setup("oidc-provider", 2)
        for name, bar in CODE_BARS.items():
            setup = Setup(name, 2)
            if setup not in runs:
                continue
            cost = median_of(runs, setup, EXCHANGE)
            lines.append(f"{EXCHANGE}: {name} {cost:.2f} ms; {judge(cost, bar, ' ms')}.")
            for figure in (EXCHANGE, WHOLE) if peer in runs else ():
                share = median_of(runs, setup, figure) / median_of(runs, peer, figure)
                lines.append(f"{figure}: {name} {share:.2f} of oidc-provider; {judge(share, BAR)}.")
        return lines


BENCHMARK = OIDCSignIn()

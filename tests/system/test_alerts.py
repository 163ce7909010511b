"""Prometheus accepts the alert rules and the dashboards' expressions, and each alert fires."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.environment import need
from tests.support.metrics import RULES, dashboard_expressions, rules

Series = Mapping[str, str]
"""Values by series, in the notation of promtool."""

WEEKLY_INTERVAL, INTERVAL = "10m", "1m"

WEEKLY_EVALUATION = "30m"
"""Rules that look a week back are evaluated rarely: promtool evaluates every rule each time."""


class Case(NamedTuple):
    """An alert with series that let it fire, and with series that do not.

    summary: of the alert that fires. at: when it is checked.
    """

    alert: str
    firing: Series
    silent: Series
    summary: str
    labels: Mapping[str, str] = {}
    at: str = "20m"


def gauge(name: str, bad: float, good: float, **labels: str) -> tuple[Series, Series]:
    text = ",".join(f'{key}="{value}"' for key, value in {"instance": "one", **labels}.items())
    return {f"{name}{{{text}}}": f"{bad}x60"}, {f"{name}{{{text}}}": f"{good}x60"}


def counter(name: str, bad: float, good: float, labels: str = "") -> tuple[Series, Series]:
    """Counters of `bad` and `good` more each minute."""
    return {f"{name}{{{labels}}}": f"0+{bad}x60"}, {f"{name}{{{labels}}}": f"0+{good}x60"}


def share(name: str, label: str, bad: str, good: str, app: str = "") -> tuple[Series, Series]:
    """A quarter of the outcomes is bad, or a twentieth."""
    one, other = f'{name}{{{app}{label}="{bad}"}}', f'{name}{{{app}{label}="{good}"}}'
    return {one: "0+60x60", other: "0+180x60"}, {one: "0+6x60", other: "0+180x60"}


ONE, SHOP = {"instance": "one"}, {"app": "shop"}

LOGINS, REFUSALS = "scanlogin_logins_total", "scanlogin_refusals_total"

PUSHES = "scanlogin_audit_pushes_total"

CASES = [
    Case(
        "ScanLoginNotReady",
        *gauge("scanlogin_ready", 0, 1),
        "one accepts no browsers",
        ONE,
    ),
    Case(
        "ScanLoginAllNotReady",
        {'scanlogin_ready{instance="one"}': "0x60", 'scanlogin_ready{instance="two"}': "0x60"},
        {'scanlogin_ready{instance="one"}': "0x60", 'scanlogin_ready{instance="two"}': "1x60"},
        "No instance accepts browsers",
    ),
    Case(
        "ScanLoginUnavailable",
        *counter(REFUSALS, 120, 30, 'error="temporarily_unavailable"'),
        "Logins fail: 2 requests a second are unavailable",
    ),
    Case(
        "ScanLoginStoreDown",
        *gauge("scanlogin_state_up", 0, 1),
        "one does not reach the state",
        ONE,
    ),
    Case(
        "ScanLoginStateRefusesWrites",
        *gauge("scanlogin_state_refuses_writes", 1, 0),
        "Redis refuses writes",
        ONE,
    ),
    Case(
        "ScanLoginStateLacksReplicas",
        *gauge("scanlogin_state_lacks_replicas", 1, 0),
        "Too few replicas hold the writes of Redis",
        ONE,
    ),
    Case(
        "ScanLoginStateEvicts",
        *gauge("scanlogin_state_evicts", 1, 0),
        "Redis may delete logins and sessions to free memory",
        ONE,
    ),
    Case(
        "ScanLoginBusDeaf",
        *counter("scanlogin_bus_deaf_total", 1, 0, 'instance="one"'),
        "The bus of one falls silent repeatedly",
        ONE,
    ),
    Case(
        "ScanLoginNoticesLost",
        *counter("scanlogin_news_found_total", 60, 20),
        "Browsers get changes late because notices are lost",
    ),
    Case(
        "ScanLoginFewFinish",
        {f'{LOGINS}{{state="scanned"}}': "0+60x60", f'{LOGINS}{{state="redeemed"}}': "0+3x60"},
        {f'{LOGINS}{{state="scanned"}}': "0+60x60", f'{LOGINS}{{state="redeemed"}}': "0+30x60"},
        "Fewer than a tenth of the scanned logins are completed",
    ),
    Case(
        "ScanLoginWeChat",
        *share("scanlogin_wechat_requests_total", "errcode", "45009", "0"),
        "1 requests a second to WeChat fail",
    ),
    Case(
        "ScanLoginDirectory",
        *share("scanlogin_directory_answers_total", "outcome", "failed", "found"),
        "The webhook of the user directory fails",
    ),
    Case(
        "ScanLoginPolicy",
        *share("scanlogin_policy_answers_total", "outcome", "paused", "allow"),
        "The webhook of the login policy fails",
    ),
    Case(
        "ScanLoginRefreshReused",
        {'scanlogin_refresh_reused_total{app="shop"}': "5x14 6x45"},
        {'scanlogin_refresh_reused_total{app="shop"}': "5x60"},
        "A refresh token of shop was used again",
        SHOP,
    ),
    Case(
        "ScanLoginBackchannelFails",
        *share("scanlogin_backchannel_total", "outcome", "refused", "delivered", 'app="shop",'),
        "shop does not accept back-channel logouts",
        SHOP,
    ),
    Case(
        "ScanLoginTunnelCallbacksFail",
        *share("scanlogin_tunnel_callbacks_total", "outcome", "failed", "accepted", 'app="shop",'),
        "shop does not answer callbacks of tunnels",
        SHOP,
    ),
    Case(
        "ScanLoginRecordsDown",
        *gauge("scanlogin_records_down", 1, 0),
        "one does not reach the database",
        ONE,
    ),
    Case(
        "ScanLoginRecordsFileLost",
        *gauge("scanlogin_records_file_lost", 1, 0),
        "The SQLite file of one is deleted or replaced",
        ONE,
    ),
    Case(
        "ScanLoginTrailDropped",
        *counter("scanlogin_trail_dropped_total", 1, 0, 'instance="one"'),
        "one loses entries of the audit log",
        ONE,
    ),
    Case(
        "ScanLoginAuditPushFails",
        {f'{PUSHES}{{outcome="failed"}}': "0+1x60", f'{PUSHES}{{outcome="delivered"}}': "5x60"},
        {f'{PUSHES}{{outcome="failed"}}': "0+1x60", f'{PUSHES}{{outcome="delivered"}}': "0+1x60"},
        "The audit log cannot be pushed",
        at="50m",
    ),
    Case(
        "ScanLoginPoolLow",
        *gauge("scanlogin_pool_low", 1, 0, app="shop"),
        "The pool of shop has few free codes",
        SHOP,
    ),
    Case(
        "ScanLoginPoolEmpty",
        *counter("scanlogin_pool_empty_total", 20, 5, 'app="shop"'),
        "The pool of shop has no free codes",
        SHOP,
        at="40m",
    ),
    Case(
        "ScanLoginKeysDiffer",
        *gauge("scanlogin_keys_differ", 1, 0, keys="seal"),
        "one has other seal keys than another instance",
        {**ONE, "keys": "seal"},
    ),
    Case(
        "ScanLoginKeyOld",
        *gauge("scanlogin_signing_key_age_seconds", 101 * 86400, 99 * 86400),
        "The signing keys were rotated 101d 0h 0m 0s ago",
        ONE,
    ),
    Case(
        "ScanLoginClockOffset",
        *gauge("scanlogin_clock_offset_seconds", -3, -1),
        "The clocks of one and Redis differ by 3 s",
        ONE,
    ),
    Case(
        "ScanLoginLogLost",
        *counter("scanlogin_log_lines_dropped_total", 1, 0, 'instance="one"'),
        "one loses log lines",
        ONE,
    ),
    Case(
        "ScanLoginTaskFails",
        *counter("scanlogin_task_failures_total", 1, 0, 'instance="one",task="lobby"'),
        "The task lobby of one fails repeatedly",
        {**ONE, "task": "lobby"},
    ),
    Case(
        "ScanLoginFlood",
        *counter("scanlogin_sockets_refused_total", 120, 30, 'limit="socket"'),
        "Clients send more Socket.IO packets than the limits allow",
    ),
    Case(
        "ScanLoginWrongAnswers",
        *counter("scanlogin_match_wrong_answers_total", 2, 0.1, 'app="shop",kind="number"'),
        "Many wrong answers to the matches of shop",
        SHOP,
    ),
    Case(
        "ScanLoginGuessing",
        *counter(REFUSALS, 600, 60, 'error="rate_limited"'),
        "Many failed attempts or begins are refused",
    ),
    Case(
        "ScanLoginCertSoon",
        {'probe_ssl_earliest_cert_expiry{job="scan-login-public"}': f"{13 * 86400 + 1200}x60"},
        {'probe_ssl_earliest_cert_expiry{job="scan-login-public"}': f"{15 * 86400 + 1200}x60"},
        "The certificate of the public URL expires in 13d 0h 0m 0s",
        {"job": "scan-login-public"},
    ),
]

FIRST_REUSE = Case(
    "ScanLoginRefreshReused",
    {'scanlogin_refresh_reused_total{app="shop"}': "_x14 1x45"},
    {'scanlogin_refresh_reused_total{app="shop"}': "1x60"},
    "A refresh token of shop was used again",
    SHOP,
)
"""The series of an app begins with its first reuse."""

STEPS_A_WEEK = 7 * 144
"""Intervals of the cases that look a week back."""

REQUESTS = {'scanlogin_http_seconds_count{route="POST /phone/scan"}': "0+600x1152"}

WEEKLY_CASES = [
    Case(
        "ScanLoginConfirmsFall",
        {
            f'{LOGINS}{{state="pending"}}': "0+10x1152",
            f'{LOGINS}{{state="confirmed"}}': f"0+8x{STEPS_A_WEEK} {8 * STEPS_A_WEEK}+3x144",
        },
        {
            f'{LOGINS}{{state="pending"}}': f"0+10x{STEPS_A_WEEK} {10 * STEPS_A_WEEK}+3x144",
            f'{LOGINS}{{state="confirmed"}}': f"0+8x{STEPS_A_WEEK} {8 * STEPS_A_WEEK}x144",
        },
        "Half as many of the begun logins are confirmed as a week ago",
        at="7d12h",
    ),
    Case(
        "ScanLoginRefusalsRise",
        {
            **REQUESTS,
            f'{REFUSALS}{{error="invalid_client"}}': (
                f"0+10x{STEPS_A_WEEK} {10 * STEPS_A_WEEK}+40x144"
            ),
        },
        {
            **REQUESTS,
            f'{REFUSALS}{{error="invalid_client"}}': (
                f"0+10x{STEPS_A_WEEK} {10 * STEPS_A_WEEK}+25x144"
            ),
        },
        "Three times as many error responses for each request as a week ago",
        at="7d12h",
    ),
]


def expected(case: Case) -> dict[str, Any]:
    [rule] = [rule for rule in rules() if rule["alert"] == case.alert]
    return {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }


def promtool_tests(cases: Sequence[Case], interval: str) -> list[dict[str, Any]]:
    """Return two tests for each case: its alert fires, and it does not."""
    return [
        {
            "name": f"{case.alert}: {'fires' if alerts else 'is silent'}",
            "interval": interval,
            "input_series": [{"series": name, "values": text} for name, text in series.items()],
            "alert_rule_test": [
                {"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}
            ],
        }
        for case in cases
        for series, alerts in ((case.firing, [expected(case)]), (case.silent, []))
    ]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_each_alert_has_a_firing_and_a_silent_case() -> None:
    tested = sorted(case.alert for case in [*CASES, *WEEKLY_CASES])

    assert tested == sorted(rule["alert"] for rule in rules())


def test_prometheus_accepts_the_rules() -> None:
    checked = promtool("check", "rules", RULES)

    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules())} rules found" in checked.stdout


@pytest.mark.parametrize(
    ("cases", "interval", "evaluation"),
    [
        ([*CASES, FIRST_REUSE], INTERVAL, INTERVAL),
        (WEEKLY_CASES, WEEKLY_INTERVAL, WEEKLY_EVALUATION),
    ],
    ids=["minutes", "weeks"],
)
def test_alerts_fire_only_when_they_should(
    cases: Sequence[Case], interval: str, evaluation: str, tmp_path: Path
) -> None:
    file = tmp_path / "tests.yml"
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": evaluation,
        "tests": promtool_tests(cases, interval),
    }
    file.write_text(yaml.safe_dump(content))

    tested = promtool("test", "rules", file)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_prometheus_accepts_expressions_of_the_dashboards(tmp_path: Path) -> None:
    records = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))

    checked = promtool("check", "rules", file)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(records)} rules found" in checked.stdout

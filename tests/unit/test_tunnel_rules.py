"""The rules of tunnels."""

from __future__ import annotations

import pytest

from broker.tunnels.model import ClosedBy, Tunnel, TunnelState, new_ticket, new_tunnel_id
from broker.tunnels.rules import (
    attach,
    check_close_code,
    check_close_reason,
    check_groups,
    check_meta,
    check_subject,
    lose,
)

NOW = 1_000_000.0

PENDING = Tunnel(id="Aaaaaaaaaaaaaaaaaaaaaa", app="shop")
OPEN = attach(PENDING, instance="a", now=NOW)


def test_used_ticket_opens_tunnel() -> None:
    assert (OPEN.state, OPEN.attachment, OPEN.instance) == (TunnelState.OPEN, 1, "a")
    assert (OPEN.opened_at, OPEN.version) == (NOW, 1)


def test_lost_socket_makes_tunnel_away() -> None:
    away = lose(OPEN, ClosedBy.DRAIN, now=NOW, away_timeout=120)

    assert away is not None
    assert (away.state, away.lost_by, away.due_at) == (TunnelState.AWAY, ClosedBy.DRAIN, NOW + 120)
    assert away.attachment == OPEN.attachment


def test_away_tunnel_cannot_lose_socket_again() -> None:
    away = lose(OPEN, ClosedBy.NETWORK, now=NOW, away_timeout=120)

    assert away is not None
    assert lose(away, ClosedBy.NETWORK, now=NOW, away_timeout=120) is None


@pytest.mark.parametrize("state", TunnelState)
def test_resume_opens_tunnel_in_every_state(state: TunnelState) -> None:
    away = lose(OPEN, ClosedBy.NETWORK, now=NOW, away_timeout=120)
    before = {TunnelState.OPEN: OPEN, TunnelState.AWAY: away}[state]
    assert before is not None

    resumed = attach(before, instance="b", now=NOW + 5, session_end=NOW + 60)

    assert (resumed.state, resumed.attachment, resumed.instance) == (TunnelState.OPEN, 2, "b")
    assert (resumed.opened_at, resumed.due_at) == (NOW, NOW + 60)


def test_ticket_begins_with_shard_of_tunnel() -> None:
    tunnel_id = new_tunnel_id()

    assert len(tunnel_id) == 22
    assert len(new_ticket(tunnel_id)) == 43
    assert new_ticket(tunnel_id)[0] == tunnel_id[0]


def test_valid_fields_are_returned() -> None:
    assert check_meta({"room": "7"}) == '{"room":"7"}'
    assert check_groups(["a", "b", "a"]) == ("a", "b")
    assert check_subject("user-7") == "user-7"
    assert check_close_code(4999) == 4999
    assert check_close_reason("é" * 61) == "é" * 61


@pytest.mark.parametrize("meta", [None, [], "{}", {"a": "x" * 4090}])
def test_invalid_meta_is_refused(meta: object) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        check_meta(meta)


@pytest.mark.parametrize("groups", [None, "a", [1], ["a b"], [""], ["a\n"], ["a"] * 17, ["x" * 65]])
def test_invalid_groups_are_refused(groups: object) -> None:
    with pytest.raises(ValueError, match="must be a list"):
        check_groups(groups)


@pytest.mark.parametrize("subject", [None, "", "a\nb", "x" * 129])
def test_invalid_subject_is_refused(subject: object) -> None:
    with pytest.raises(ValueError, match="must be a printable text"):
        check_subject(subject)


@pytest.mark.parametrize("code", [None, 3999, 5000, True, 4001.0, "4001"])
def test_invalid_close_code_is_refused(code: object) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        check_close_code(code)


@pytest.mark.parametrize("reason", [None, 7, "x" * 124, "é" * 62, "\ud800"])
def test_invalid_close_reason_is_refused(reason: object) -> None:
    with pytest.raises(ValueError, match=r"must be a text|surrogates"):
        check_close_reason(reason)

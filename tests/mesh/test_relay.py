"""A pinned neighbour that forges what it relays, to a running peer over real sockets."""

from pathlib import Path

import pytest

from tallynode.lab.relay import AHEAD, GARBAGE, relay_forgeries
from tallynode.protocol.manners import STRIKES_MAX

pytestmark = pytest.mark.slow


async def test_nothing_that_a_relay_makes_up_is_tallied(tmp_path: Path) -> None:
    """Forged, replayed, old, oversize: no vote more; truly signed: one more, until it is two."""
    heard = {each.name: each for each in await relay_forgeries(tmp_path)}
    true = heard.pop("what c has signed")
    assert max(true.voters) == 3
    assert true.refused == 0
    for each in heard.values():
        assert set(each.voters) == {2}, each
        assert "deadline" not in each.closed_by
    assert [name for name, each in heard.items() if each.left_out == ["c"]] == list(heard)[-2:]
    for name in ("a forged origin, signed by the relay", "a forged origin, not signed"):
        assert heard[name].refused == len(AHEAD)
    assert heard["a replay from another mesh"].refused == len(AHEAD)
    assert heard["an oversize ballot"].refused == 1
    assert 0 < heard[f"{GARBAGE} messages of garbage"].refused <= GARBAGE
    assert GARBAGE > STRIKES_MAX
    log = (tmp_path / "a" / "log.jsonl").read_text(encoding="utf-8")
    assert "sends garbage: shunned" in log
    assert log.count("link lost") == 1

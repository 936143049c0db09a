"""A pinned neighbour that forges what it relays, to a running peer over real sockets."""

from pathlib import Path

import pytest

from tallynode.lab.relay import AHEAD, GARBAGE, ROUNDS_AFTER, relay_forgeries
from tallynode.protocol.manners import STRIKES_MAX

pytestmark = pytest.mark.slow


async def test_nothing_that_a_relay_makes_up_is_tallied(tmp_path: Path) -> None:
    """Forged, replayed, old, oversize: no vote more; truly signed: one more, until it is two.

    Nor does anything made up cost a round: nobody is waited for because of it. What c has signed,
    even long ago, makes it seem to be there, and one round waits for it in vain.
    """
    heard = {each.name: each for each in await relay_forgeries(tmp_path)}
    true = heard.pop("what c has signed")
    assert max(true.voters) == 3
    assert true.refused == 0
    assert heard["an old round, truly signed"].closed_by.count("quorum") == 1
    twice = heard["two ballots that c has signed for one round"]
    for each in heard.values():
        voters = each.voters[-ROUNDS_AFTER:] if each is twice else each.voters
        assert set(voters) == {2}, each
        if not each.name.startswith(("an old round", "two ballots")):
            assert set(each.closed_by) == {"all"}, each
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

"""Meshes under faults: every seed holds, replays the same, and the judge is not blind."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tallynode.lab.faults.campaign import campaign
from tallynode.lab.faults.disk import Disk, Moment
from tallynode.lab.faults.run import run_seed
from tallynode.protocol.ballots import BallotBox
from tallynode.protocol.contents import votes as votes_module
from tallynode.protocol.gossip import Gossip
from tallynode.protocol.hearing import Hearing
from tallynode.protocol.members import Members
from tallynode.protocol.peer import Peer

SEEDS = 300
WITHIN_SEEDS = 40  # seeds in which each mutant must have been seen


@pytest.mark.slow
@pytest.mark.timeout(900)  # two and a half minutes of one idle core
def test_no_seed_breaks_an_invariant() -> None:
    """Hundreds of meshes come through their faults, and between them meet every path we know of."""
    total = campaign(range(SEEDS))
    assert total.broken == {}
    assert total.seeds == SEEDS
    assert total.missed() == []


def test_a_seed_replays_in_another_process_with_other_hashes() -> None:
    """The trace of a seed depends on nothing but the seed."""
    code = "import sys; from tallynode.lab.faults.run import run_seed; print(run_seed(7).digest); "
    code += "assert 'torch' not in sys.modules"
    digests = set()
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        ran = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout.strip())
    assert digests == {run_seed(7).digest}
    assert run_seed(8).digest not in digests


def test_the_command_replays_a_seed_and_keeps_what_it_counted(tmp_path: Path) -> None:
    """Its trace ends in the digest that the seed has anywhere; its JSON holds the counts."""
    command = [sys.executable, str(Path(__file__).parents[2] / "scripts" / "simulate_faults")]
    ran = subprocess.run(
        [*command, "--seed", "7", "--trace"], capture_output=True, text=True, check=True
    )
    lines = ran.stdout.splitlines()
    assert lines[-1] == f"seed 7: trace {run_seed(7).digest}, every invariant held"
    assert any("boots from None" in line for line in lines)
    kept = tmp_path / "counts.json"
    options = ["--seeds", "2", "--from", "5", "--jobs", "1", "--json", str(kept)]
    subprocess.run([*command, *options], capture_output=True, check=True)
    counts = json.loads(kept.read_text())
    assert (counts["seeds"], counts["broken"]) == (2, {})
    assert counts["peer_rounds"] == sum(run_seed(seed).peer_rounds for seed in (5, 6))
    assert "closed by all" in counts["seen"]


Wrong = Callable[[Callable[..., Any]], Callable[..., Any]]  # what is right -> what is wrong


def forgetful(_: Callable[..., Any]) -> Callable[..., Any]:
    """Do nothing."""
    return lambda *args, **kwargs: None


def begins_anew(begin: Callable[..., Any]) -> Callable[..., Any]:
    """Forget what was restored."""

    def anew(peer: Peer, now: float) -> Any:
        peer._restored, peer._free = None, 1
        return begin(peer, now)

    return anew


def unbounded(_: Callable[..., Any]) -> Callable[..., Any]:
    """Keep every ballot."""
    return lambda box, origin, round_, held: box._held.setdefault(origin, {}).update({round_: held})


def by_the_clock(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A tally that depends on how often it was asked before."""
    asked = itertools.count()

    def tally(votes: Any, probes: Any, classes: int, *how: Any) -> Any:
        found = rule(votes, probes, classes, *how)
        return dataclasses.replace(found, labels=(found.labels + next(asked)) % classes)

    return tally


def upside_down(decode: Callable[..., Any]) -> Callable[..., Any]:
    """Read votes backwards."""

    def read(*args: Any) -> Any:
        held = decode(*args)
        return dataclasses.replace(held, content=held.content[::-1])

    return read


# (what is broken, by what, and one of what the judge may then say)
MUTANTS: dict[str, tuple[object, str, Wrong, str]] = {
    "published, then saved": (Peer, "_cast", lambda cast: lambda *a: cast(*a)[::-1], "unsaved"),
    "not resumed": (Peer, "_begin", begins_anew, "second ballot"),
    "back to the first round": (
        Peer,
        "_train",
        lambda train: lambda peer, round_, now: train(peer, 1 if round_ > 3 else round_, now),
        "went back",
    ),
    "a round voted in twice": (
        Peer,
        "_train",
        lambda train: lambda peer, round_, now: train(peer, max(1, round_ - 1), now),
        "second ballot",
    ),
    "the gone waited for": (Members, "gone", forgetful, "gone"),
    "the missed waited for": (Members, "missed", forgetful, "gone"),
    "no deadline": (Peer, "_closes", lambda _: lambda peer, now: None, "to be woken"),
    "ballots hoarded": (BallotBox, "put", unbounded, "ballots of an origin"),
    "tallies by chance": (votes_module, "tally", by_the_clock, "otherwise"),
    "decoded wrongly": (
        votes_module.Votes,
        "decode",
        upside_down,
        "never cast",
    ),
    "the same taken for another": (
        Hearing,
        "_otherwise",
        lambda _: lambda self, known, ballot: known,
        "refuses",
    ),
    "never grafted": (Gossip, "graft", lambda _: lambda gossip, origins: {}, "last fault"),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_the_judge_sees(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that breaks a rule is caught within a few seeds, or its rule would not be tested."""
    owner, name, wrong, says = MUTANTS[what]
    monkeypatch.setattr(owner, name, wrong(getattr(owner, name)))
    said = []
    for seed in range(WITHIN_SEEDS):
        broken = run_seed(seed).broken
        if broken and says in broken:
            return
        said.append(broken)
    pytest.fail(f"not seen in {WITHIN_SEEDS} seeds, which said {said}")


@pytest.mark.parametrize(
    ("moment", "power", "found"),
    [
        (Moment.WRITING, False, b"2"),
        (Moment.WRITING, True, b"2"),
        (Moment.RENAMED, False, b"3"),
        (Moment.RENAMED, True, b"2"),
        (Moment.FORCED, True, b"3"),
    ],
)
def test_a_death_inside_a_save(moment: Moment, power: bool, found: bytes) -> None:
    """The state found is the new one or the one before, as far as the save came."""
    disk = Disk()
    disk.save(b"1")
    disk.save(b"2")
    disk.die_saving(b"3", moment, power=power)
    assert disk.load() == found
    assert not disk.lossy


def test_a_disk_that_rots_or_refuses() -> None:
    """Rot leaves the generation before; a full disk keeps what it has; both are not held honest."""
    disk = Disk()
    assert not disk.rot()
    for state in (b"1", b"2", b"3"):
        disk.save(state)
    assert disk.rot()
    assert disk.load() == b"2"
    assert not disk.rot()
    full = Disk(refuses=True)
    assert not full.save(b"1")
    assert full.load() is None
    assert full.lossy

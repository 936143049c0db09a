"""Voters that lie, given what all honest voters are about to say: the worst that the mesh may hold.

Each attack makes the ballots of k colluding liars from the honest ballots, which they all know.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.errors import LocalError
from tallynode.layout import Layout
from tallynode.protocol.contents.votes import RULES
from tallynode.protocol.tally import SILENT, Candidates, shares_of_votes, tally

Ballots = Mapping[str, np.ndarray]  # votes (n,) int of each voter
Attack = Callable[[Ballots, int, int, np.random.Generator], dict[str, np.ndarray]]
NOISE_SEED = 0


def _named(votes: np.ndarray) -> dict[str, np.ndarray]:
    """(liars, n) votes as ballots of voters that no honest one is called like."""
    return {f"liar-{i}": row for i, row in enumerate(votes)}


def constant(
    honest: Ballots, liars: int, classes: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """All say class 0 of everything."""
    return _named(np.zeros((liars, _count(honest)), dtype=np.int64))


def noise(
    honest: Ballots, liars: int, classes: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Each says what chance says."""
    return _named(rng.integers(classes, size=(liars, _count(honest))))


def next_class(
    honest: Ballots, liars: int, classes: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """All say the class after the one that the honest majority says: a lie with a rule."""
    first, _ = _leaders(honest, classes)
    return _named(np.tile((first + 1) % classes, (liars, 1)))


def runner_up(
    honest: Ballots, liars: int, classes: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """All say the second choice of the honest: the lie that needs the fewest liars."""
    _, second = _leaders(honest, classes)
    return _named(np.tile(second, (liars, 1)))


ATTACKS: dict[str, Attack] = {
    "constant": constant,
    "noise": noise,
    "next class": next_class,
    "runner-up": runner_up,
}


def _count(honest: Ballots) -> int:
    return len(next(iter(honest.values())))


def _leaders(honest: Ballots, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the majority's class and the second one, the class after it where there is none."""
    of = Candidates.of(honest, classes)
    first = of.winners(shares_of_votes(of))
    rest = of.count.astype(float)
    rest[first] = -1
    second = of.winners(rest)
    leader = of.label[first]
    return leader, np.where(second == first, (leader + 1) % classes, of.label[second])


def witnesses(mesh: Mesh) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """What a mesh's witnesses vote in the last round, the right classes, and how many there are."""
    layout, ballots, truth, classes = Layout.of(mesh), {}, None, 0
    for name in mesh.names:
        peer = assemble.parts(mesh, name, layout=layout)
        truth, classes = peer.data.probe_labels, peer.settings.classes
        probes = np.arange(peer.settings.probes)
        for round_ in range(1, mesh.rounds.count + 1):
            ballots[name] = peer.method.train(round_, probes)
    if truth is None:
        raise LocalError("an attack is measured on probes whose classes are known")
    return ballots, truth.numpy(), classes


def under_attack(
    ballots: Ballots, truth: np.ndarray, classes: int, liars: int, attack: str
) -> dict[str, dict[str, float]]:
    """Replace the last peers by liars and tally by every rule.

    Returns:
        by rule: accuracy `unharmed` (the honest alone) and `attacked`; with the guard at as many
        liars: the share of probes that is `labelled`, how `right` these labels are, and of the
        probes the share of `wrong labels`, where the honest majority says something else.
    """
    honest = {name: ballots[name] for name in sorted(ballots)[: len(ballots) - liars]}
    rng = np.random.default_rng(NOISE_SEED)
    everybody = {**honest, **ATTACKS[attack](honest, liars, classes, rng)}
    probes = np.arange(len(truth))
    majority = tally(honest, probes, classes).labels
    found = {}
    for name, rule in RULES.items():
        unharmed = tally(honest, probes, classes, rule())
        attacked = tally(everybody, probes, classes, rule())
        guarded = tally(everybody, probes, classes, rule(), byzantine=liars)
        heard = guarded.labels != SILENT
        right = (guarded.labels == truth)[heard]
        found[name] = {
            "unharmed": float((unharmed.labels == truth).mean()),
            "attacked": float((attacked.labels == truth).mean()),
            "labelled": float(heard.mean()),
            "right": float(right.mean()) if len(right) else 0.0,
            "wrong labels": float((heard & (guarded.labels != majority)).mean()),
        }
    return found

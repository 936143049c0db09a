"""Membership inference: how much of a peer's private data shows in what it sends.

The loss-threshold attack of Yeom, Giacomelli, Fredrikson & Jha 2018 (arXiv 1709.01604): a net has
less loss on a sample that it was trained on, so whoever sees a low one says *member*. The attacker
reads all that a peer sends, takes the mean over the rounds and knows the class of each candidate.

*Parameters* are a net: its loss is the score. *Votes and soft labels* of public probes are none:
the attacker trains a net of the same kind on them and takes its loss. Or, stronger, the candidates
were among the probes: then the peer itself has said what it makes of them. *Calibrated*, the score
is set off by what the other peers' messages score on the same sample (after Watson, Guo, Cormode &
Sablayrolles 2022, arXiv 2111.08440): some samples are easy for everybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.learning import models, train
from tallynode.learning.data import load_peer_data
from tallynode.learning.samples import PeerData, Samples
from tallynode.methods.copies import Copy
from tallynode.protocol.contents.parameters import Average

SURROGATE_EPOCHS = 50  # passes over the probes
CHANCE_MIN = 1e-6  # of a soft label; its logarithm must be finite
NO_PROBES = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Scores:
    """What the attacker makes of one peer's candidates; more means member."""

    members: np.ndarray  # (n,) float
    others: np.ndarray  # (m,) float

    def auc(self) -> float:
        """Chance that a member scores higher than another sample, ties half."""
        others = np.sort(self.others)
        lower = np.searchsorted(others, self.members, side="left")
        up_to = np.searchsorted(others, self.members, side="right")
        return float((lower + up_to).mean() / (2 * len(others)))

    def advantage(self, threshold: float) -> float:
        """Share of the members less share of the others from this score up: TPR - FPR."""
        return float((self.members >= threshold).mean() - (self.others >= threshold).mean())

    def best_threshold(self) -> float:
        """The score at which the advantage is greatest."""
        scores = np.unique(np.concatenate([self.members, self.others]))
        return float(scores[np.argmax([self.advantage(score) for score in scores])])

    @classmethod
    def pooled(cls, parts: list["Scores"]) -> "Scores":
        """Several peers' as one's."""
        members = np.concatenate([of.members for of in parts])
        return cls(members, np.concatenate([of.others for of in parts]))


@dataclass(frozen=True, slots=True)
class Candidates:
    """The samples in question, of all peers: `counts[i]` members of peer i, then as many others."""

    samples: Samples
    counts: tuple[int, ...]

    @classmethod
    def of(cls, peers: list[PeerData]) -> "Candidates":
        """Each peer's private samples, and as many of each class that nobody has trained on."""
        x, y, counts = [], [], []
        for data in peers:
            own, free = data.private, data.test
            pairs = [_same_count(own.y == c, free.y == c) for c in range(len(data.classes))]
            for samples, side in ((own, 0), (free, 1)):
                picked = torch.cat([pair[side] for pair in pairs])
                x.append(samples.x[picked])
                y.append(samples.y[picked])
            counts.append(len(picked))
        return cls(Samples(torch.cat(x), torch.cat(y)), tuple(counts))

    def attacked(self, table: np.ndarray) -> dict[str, list[Scores]]:
        """(peers, samples) scores by each peer's messages -> each peer's, plain and calibrated."""
        others = (table.sum(axis=0) - table) / (len(table) - 1)
        return {"plain": self._cut(table), "calibrated": self._cut(table - others)}

    def _cut(self, table: np.ndarray) -> list[Scores]:
        starts = 2 * np.cumsum([0, *self.counts])
        return [
            Scores(row[start : start + count], row[start + count : start + 2 * count])
            for row, start, count in zip(table, starts, self.counts, strict=False)
        ]


Attacks = Mapping[str, Mapping[str, list[Scores]]]  # by what is scored, then plain or calibrated


def fields_of(attacks: Attacks) -> dict[str, Any]:
    """What a line of a study says of a mesh's attacks."""
    return {
        "attacks": {
            through: {
                kind: [[of.members.tolist(), of.others.tolist()] for of in peers]
                for kind, peers in kinds.items()
            }
            for through, kinds in attacks.items()
        }
    }


def read_from(line: Mapping[str, Any]) -> Attacks:
    """The attacks that `fields_of` wrote."""
    return {
        through: {
            kind: [Scores(*map(np.array, pair)) for pair in peers] for kind, peers in kinds.items()
        }
        for through, kinds in line["attacks"].items()
    }


def from_parameters(mesh: Mesh) -> Attacks:
    """Attack the peers of a mesh that averages whole models, everybody hearing everybody."""
    peers = [assemble.parts(mesh, name) for name in mesh.names]
    asked = Candidates.of([peer.data for peer in peers])
    net = _copy(mesh, peers[0].data)
    tables = []
    for round_ in range(1, mesh.rounds.count + 1):
        sent = np.stack([of.method.train(round_, NO_PROBES) for of in peers])
        models = sent[:, :-1]  # the last value is how many samples each was trained on
        tables.append(np.stack([_scores_of(net, model, asked.samples) for model in models]))
        values = np.asarray(models.mean(axis=0))
        average = Average(values=values, voters=len(peers), probes=NO_PROBES, models=())
        for peer in peers:
            peer.method.learn(round_, average)
    return {"the model": asked.attacked(np.mean(tables, axis=0))}


def from_answers(mesh: Mesh) -> Attacks:
    """Attack the peers of a mesh that sends votes or soft labels, through a surrogate and directly.

    What a witness says depends on no other peer and on no other probe: each can be asked alone, and
    about the candidates beside the probes.
    """
    peers = [load_peer_data(mesh.data_settings(i)) for i in range(len(mesh.names))]
    asked = Candidates.of(peers)
    labels = asked.samples.y.numpy()
    through, direct = [], []
    for name, data in zip(mesh.names, peers, strict=True):
        public, own = np.split(_said(mesh, name, data, asked.samples.x), [len(data.probes)])
        net = surrogate(mesh, data, torch.from_numpy(public))
        through.append(_scores(net, asked.samples))
        direct.append(np.log(np.maximum(own[np.arange(len(own)), labels], CHANCE_MIN)))
    return {
        "a surrogate": asked.attacked(np.stack(through)),
        "candidates among the probes": asked.attacked(np.stack(direct)),
    }


def from_nothing(mesh: Mesh) -> Attacks:
    """The control: nets that were trained on the probes' right classes, and on nothing sent."""
    peers = [load_peer_data(mesh.data_settings(i)) for i in range(len(mesh.names))]
    asked, (one, *_) = Candidates.of(peers), peers
    assert one.probe_labels is not None
    truth = functional.one_hot(one.probe_labels, len(one.classes)).float()
    scores = _scores(surrogate(mesh, one, truth), asked.samples)
    return {"a surrogate": {"plain": asked.attacked(np.stack([scores] * len(peers)))["plain"]}}


def surrogate(mesh: Mesh, data: PeerData, target: Tensor) -> nn.Module:
    """Train the attacker's net on the probes, towards the shares (probes, classes) float32."""
    copy, size = _copy(mesh, data), mesh.task.batch_size
    batches = train.batches(len(target), size, mesh.seed)
    for _ in range(SURROGATE_EPOCHS * -(-len(target) // size)):
        batch = next(batches)
        loss = functional.cross_entropy(copy.net(data.probes[batch]), target[batch])
        train.step(loss, copy.optimiser)
    return copy.net


def _said(mesh: Mesh, name: str, data: PeerData, beside: Tensor) -> np.ndarray:
    """(probes and those beside, classes) float32: what a peer said, in the mean of the rounds."""
    asked = replace(data, probes=torch.cat([data.probes, beside]), probe_labels=None)
    secret = f"{mesh.seed}/{name}".encode()
    method = assemble.method_of(mesh, mesh.peer(name), asked, secret)
    one_hot = np.eye(len(data.classes), dtype=np.float32)
    read = []
    for round_ in range(1, mesh.rounds.count + 1):
        content = method.train(round_, np.arange(len(asked.probes)))
        read.append(content if content.ndim == 2 else one_hot[content])
    return np.asarray(np.mean(read, axis=0))


def _copy(mesh: Mesh, data: PeerData) -> Copy:
    """A net like the peers', of the attacker's own seed."""
    seed = train.seed_of(mesh.seed, "attacker")
    net = models.build(mesh.task.model, data.shape, len(data.classes), seed)
    return Copy(net, mesh.train_settings(mesh.peers[0]))


def _scores_of(copy: Copy, parameters: np.ndarray, samples: Samples) -> np.ndarray:
    copy.load_flat(parameters)
    return _scores(copy.net, samples)


def _scores(net: nn.Module, samples: Samples) -> np.ndarray:
    """(n,) float32, less the more loss a net has on a sample."""
    with torch.inference_mode():
        losses = functional.cross_entropy(net(samples.x), samples.y, reduction="none")
    return np.asarray(-losses.numpy())


def _same_count(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of as many true entries of both."""
    first, second = (torch.nonzero(of).flatten() for of in (one, other))
    count = min(len(first), len(second))
    return first[:count], second[:count]

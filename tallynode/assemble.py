"""From a mesh's configuration to the parts of one peer: data, trainer, protocol settings.

The daemon and the virtual mesh build their peers here, so that both run the same thing.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypedDict

from tallynode.config import Mesh
from tallynode.config_checks import NOT_COMMON
from tallynode.config_sections import Peer
from tallynode.errors import ConfigError, DataError
from tallynode.layout import Layout
from tallynode.learning.data import PeerData, Watch, load_peer_data
from tallynode.learning.digest import probe_digest
from tallynode.learning.train import check_device, use_threads
from tallynode.methods import METHODS
from tallynode.methods.merge import MergePlan
from tallynode.methods.method import Method
from tallynode.methods.private import PrivateTallyMethod
from tallynode.methods.responses import Responses
from tallynode.protocol import graph, limits
from tallynode.protocol.coding.delta import Values
from tallynode.protocol.mixing import shares
from tallynode.protocol.settings import (
    CONTENTS,
    BridgeSettings,
    PeerSettings,
    RoundSettings,
    ballot_bytes,
)

SECRET_BYTES = 32  # 256 bits: nobody guesses it
MODEL_TAG_BYTES = 4  # tells deltas of one model from those of another; no defence


class _Of(TypedDict):
    """Whose method it is."""

    classes: int
    seed: int
    index: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What a driver needs to run one peer."""

    settings: PeerSettings
    method: Method
    data: PeerData
    watch: Watch

    def renew(self) -> int | None:
        """Take private data in that are new since the last call; how many there now are, if so.

        Raises:
            DataError: there are new data that cannot be used; the old ones serve on.
        """
        data = self.watch.renewed()
        if data is None:
            return None
        self.method.take(data)
        return len(data.private)


def parts(
    mesh: Mesh,
    name: str,
    *,
    layout: Layout | None = None,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
    secret: bytes | None = None,
) -> Parts:
    """Build the peer of this name, and let torch use so many threads in this process.

    Args:
        mesh: the whole configuration.
        name: which peer of it.
        layout: the mesh's graph, where it is known already.
        threads: how many torch may use.
        progress: told of long waits for data, and of images that are left out.
        secret: hides the noise over private votes; None: drawn here, as it must be off simulation.

    Raises:
        ConfigError: its method cannot run on this mesh.
        DataError: its data cannot be loaded, or what it would send does not fit a message.
    """
    use_threads(threads)
    peer = mesh.peer(name)
    check_device(mesh.train_settings(peer).device, name)
    layout = layout or Layout.of(mesh)
    if mesh.method.select != "random" and not layout.common:
        raise ConfigError(f"method.select: {mesh.method.select} {NOT_COMMON}")
    source = mesh.data_settings(mesh.names.index(name))
    watch = Watch(source, progress)
    data = load_peer_data(source, progress)
    voted = _voted(mesh, data)
    method = method_of(mesh, peer, data, secret or secrets.token_bytes(SECRET_BYTES))
    parameters = method.parameters if CONTENTS[mesh.method.name] == "parameters" else 0
    _check_sizes(mesh, voted, len(data.classes), parameters)
    plan = _merge_plan(mesh, name, layout)
    if plan is not None and plan.weights:
        method.join(plan)
    settings = PeerSettings(
        mesh=mesh.called,
        name=name,
        reach=graph.reach(name, layout.neighbours, mesh.hops),
        hops=mesh.hops,
        classes=len(data.classes),
        probes=len(data.probes),
        per_round=None if mesh.task.probes.per_round == "all" else voted,
        probe_digest=probe_digest(data.probes, data.classes),
        common=layout.common,
        seed=mesh.seed,
        rounds=_rounds(mesh),
        method=mesh.method.name,
        tally=mesh.method.tally if mesh.method.name == "tally" else "plurality",
        byzantine=mesh.method.byzantine,
        levels=mesh.method.levels,
        select=mesh.method.select,
        sampled_from=_sampled_from(mesh),
        holdings=_holdings(mesh, voted, len(data.classes)),
        coding=mesh.method.coding,
        bits=mesh.method.bits,
        bits_down=_bits_down(mesh),
        hub=mesh.hub,
        delta_coding=mesh.method.delta_coding,
        parameters=parameters,
        bridge=_bridge(plan, mesh, peer, method) if plan else None,
        heard=layout.heard,
    )
    return Parts(settings, method, data, watch)


def _merge_plan(mesh: Mesh, name: str, layout: Layout) -> MergePlan | None:
    """How a peer's learner is merged; None: not at all."""
    bridge = mesh.method.bridge
    if bridge is None:
        return None
    return MergePlan(
        weights=shares(name, layout.alike),
        every=bridge.every,
        density=bridge.density,
        full=bridge.full,
        values=Values[bridge.values.upper()],
    )


def _bridge(plan: MergePlan, mesh: Mesh, peer: Peer, method: Method) -> BridgeSettings:
    """The same, as the protocol takes it."""
    kind = f"{mesh.train_settings(peer).model}/{method.parameters}/{mesh.seed}"
    digest = hashlib.blake2b(kind.encode(), digest_size=MODEL_TAG_BYTES).digest()
    return BridgeSettings(
        every=plan.every,
        merges=tuple(plan.weights),
        model=int.from_bytes(digest),
        bytes_max=plan.bytes_max(method.parameters),
        said=f"{plan.density:g} {plan.values.name.lower()} {plan.full or ''}".rstrip(),
    )


def refuse_pooling(mesh: Mesh) -> None:
    """Refuse, where peers are processes of their own, what takes all their data in one place."""
    if mesh.method.name == "centralised":
        raise ConfigError(
            "method.name: centralised pools all private data, which no real peer can: "
            "use simulate --virtual"
        )


def _voted(mesh: Mesh, data: PeerData) -> int:
    """Probes voted on in a round."""
    per_round = mesh.task.probes.per_round
    return len(data.probes) if per_round == "all" else min(per_round, len(data.probes))


def _sampled_from(mesh: Mesh) -> int | None:
    """The round from which the majority labels; where peers decide for themselves, never."""
    start = mesh.method.sampling
    return None if start == "auto" else start


def _holdings(mesh: Mesh, voted: int, classes: int) -> bool:
    """Whether ballots say what their voters hold of each class."""
    few = classes <= limits.HOLDINGS_CLASSES_MAX and not _too_many(voted, classes)
    return mesh.method.says_holdings and few


def _bits_down(mesh: Mesh) -> int:
    """Of the aggregate, in the method that quantises it."""
    of = mesh.method
    return (of.bits if of.bits_down is None else of.bits_down) if of.name == "cfd" else 0


def method_of(mesh: Mesh, peer: Peer, data: PeerData, secret: bytes) -> Method:
    """The mesh's method on one peer's data; `secret` as in `parts`."""
    settings, classes, voted = mesh.train_settings(peer), len(data.classes), _voted(mesh, data)
    settings = replace(settings, holdings=_holdings(mesh, voted, classes))
    if settings.sampled_from == "auto" and _too_many(voted, classes):
        settings = replace(settings, sampled_from=None)
    of: _Of = {"classes": classes, "seed": mesh.seed, "index": mesh.names.index(peer.name)}
    if mesh.method.privacy is None:
        return METHODS[mesh.method.name](data, settings, **of)
    responses = Responses(
        mesh.method.privacy.budget(),
        classes=classes,
        probes=len(data.probes),
        voted=voted,
        secret=secret,
    )
    return PrivateTallyMethod(data, settings, responses, **of)


def _too_many(voted: int, classes: int) -> bool:
    """Whether a round's votes make too large a histogram to learn from."""
    return voted * classes > limits.HISTOGRAM_CELLS_MAX


def _check_sizes(mesh: Mesh, voted: int, classes: int, parameters: int) -> None:
    """Refuse what the protocol could not carry, in the words of the configuration."""
    levels = mesh.method.levels
    if (
        ballot_bytes(mesh.method.name, voted, classes * levels, parameters)
        > limits.BALLOT_BYTES_MAX
    ):
        what = f"{parameters} parameters" if parameters else f"{voted} probes of {classes} classes"
        cure = "choose a smaller model" if parameters else "lower task.probes.per_round"
        raise DataError(
            f"data: with method {mesh.method.name}, {what} do not fit a message of "
            f"{limits.MESSAGE_BYTES_MAX} bytes; {cure}"
        )
    dense = isinstance(mesh.method.sampled_from, int) or mesh.method.target != "hard"
    if mesh.method.name == "tally" and dense and _too_many(voted, classes):
        raise DataError(
            f"data: {voted} probes of {classes} classes are too many for histograms, which "
            "method.sampled_from and every method.target but hard learn from; lower "
            "task.probes.per_round"
        )
    cells = len(mesh.peers) * levels * classes
    if (
        levels > 1
        and max(cells / limits.SURENESS_CELLS_MAX, classes * levels / limits.CLASSES_MAX) > 1
    ):
        raise DataError(
            f"data: {classes} classes are too many for votes of {levels} levels of sureness"
        )
    if mesh.method.tally == "dawid-skene" and classes > limits.CONFUSION_CLASSES_MAX:
        raise DataError(
            f"data: {classes} classes are too many for tally dawid-skene, which takes "
            f"{limits.CONFUSION_CLASSES_MAX}; use reliability"
        )


def _rounds(mesh: Mesh) -> RoundSettings:
    rounds = mesh.rounds
    return RoundSettings(
        count=rounds.count,
        quorum=rounds.quorum,
        staleness=rounds.staleness,
        deadline_min_s=rounds.deadline.min,
        deadline_max_s=rounds.deadline.max,
        start_within_s=rounds.start_within,
        linger_s=rounds.linger,
        save_every=rounds.save_every,
    )

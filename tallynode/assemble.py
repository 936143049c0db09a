"""From a mesh's configuration to the parts of one peer: data, trainer, protocol settings.

The daemon and the virtual mesh build their peers here, so that both run the same thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tallynode.config import Mesh
from tallynode.errors import DataError
from tallynode.learning.data import PeerData, Watch, load_peer_data
from tallynode.learning.digest import probe_digest
from tallynode.learning.train import use_threads
from tallynode.methods.tally import TallyMethod
from tallynode.protocol import graph, limits
from tallynode.protocol.coding.packed import packed_bytes
from tallynode.protocol.settings import PeerSettings, RoundSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """What a driver needs to run one peer."""

    settings: PeerSettings
    method: TallyMethod
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


def edges(mesh: Mesh) -> graph.Edges:
    """Who neighbours whom in this mesh."""
    names, settings = mesh.names, mesh.graph
    match settings.kind:
        case "ring":
            return graph.ring(names)
        case "torus":
            return graph.torus(names, settings.rows or 0, settings.cols or 0)
        case "small-world":
            return graph.small_world(names, settings.degree or 0, settings.rewire or 0.0, mesh.seed)
        case "random-regular":
            return graph.random_regular(names, settings.degree or 0, mesh.seed)
        case "complete":
            return graph.complete(names)
        case "star":
            return graph.star(names)
        case "custom":
            return graph.of_pairs(settings.edges or ())


def parts(
    mesh: Mesh, name: str, *, threads: int = 1, progress: Callable[[str], None] = lambda _: None
) -> Parts:
    """Build the peer of this name, and let torch use so many threads in this process.

    Raises:
        DataError: its data cannot be loaded.
    """
    use_threads(threads)
    peer = mesh.peer(name)
    index = mesh.names.index(name)
    source = mesh.data_settings(index)
    watch = Watch(source)
    data = load_peer_data(source, progress)
    neighbours = graph.adjacency(mesh.names, edges(mesh))
    per_round = mesh.task.probes.per_round
    voted = len(data.probes) if per_round == "all" else min(per_round, len(data.probes))
    if packed_bytes(voted, len(data.classes)) > limits.BALLOT_BYTES_MAX:
        raise DataError(
            f"data: a ballot on {voted} probes of {len(data.classes)} classes does not fit a "
            f"message of {limits.MESSAGE_BYTES_MAX} bytes; lower task.probes.per_round"
        )
    settings = PeerSettings(
        mesh=mesh.mesh,
        name=name,
        reach=graph.reach(name, neighbours, mesh.hops),
        hops=mesh.hops,
        classes=len(data.classes),
        probes=len(data.probes),
        per_round=None if per_round == "all" else voted,
        probe_digest=probe_digest(data.probes, data.classes),
        method=mesh.method.name,
        tally=mesh.method.tally,
        coding=mesh.method.coding,
        common=_all_hear_all(mesh, neighbours),
        seed=mesh.seed,
        rounds=_rounds(mesh),
    )
    method = TallyMethod(
        data, mesh.train_settings(peer), classes=len(data.classes), seed=mesh.seed, index=index
    )
    return Parts(settings, method, data, watch)


def _all_hear_all(mesh: Mesh, neighbours: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the ballots of every peer can reach every other."""
    far = [graph.distances(name, neighbours) for name in mesh.names]
    return all(len(of) == len(mesh.names) and max(of.values()) <= mesh.hops for of in far)


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
    )

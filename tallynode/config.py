"""topology.yaml as frozen settings, or every error in it at once, each with file:line:column.

The sections mirror the file key by key, and each checks itself when it is built; what concerns
several sections (a graph and the number of peers) is checked by `Mesh` once the sections stand.
Durations are seconds once read. No torch here: `tallynode check` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ValidationError, model_validator

from tallynode import config_fields as fields
from tallynode.config_checks import SECTIONS_AGREE, check_choice
from tallynode.config_graph import Graph, check_graph
from tallynode.config_problems import findings
from tallynode.config_sections import Method, Peer, Rounds, Section, Task, distinct, peer_list
from tallynode.config_yaml import Where, nearest, read_document, written
from tallynode.errors import ConfigError
from tallynode.learning.settings import DataSettings, TrainSettings
from tallynode.protocol import limits


class Mesh(Section):
    """A whole topology.yaml."""

    mesh: fields.Name
    epoch: fields.Epoch = 0  # begun anew with the same keys and probes: one more, on every peer
    listen: fields.Listen = "127.0.0.1"
    insecure: Literal["loopback", "lab-network"] | None = None  # None: pinned off loopback
    broker: fields.Broker = "embedded"  # embedded | mosquitto | mqtt://host[:port]
    # mDNS; a name: only among peers that state the same one (yes and no are no names)
    discovery: fields.Discovery = True
    seed: fields.Seed = 7
    graph: Graph = Graph(kind="ring")
    peers: Annotated[tuple[Peer, ...], BeforeValidator(peer_list), AfterValidator(distinct)]
    task: Task = Task()
    rounds: Rounds = Rounds()
    method: Method = Method()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        checks = (_check_trust, *SECTIONS_AGREE)
        found = [problem for check in checks for problem in check(self)]
        found += check_graph(self.graph, self.names)
        if len(self.called) > limits.NAME_BYTES_MAX:
            why = (
                f"should be shorter: {self.called} has more than {limits.NAME_BYTES_MAX} characters"
            )
            found.append((("mesh",), why))
        fields.refuse_all(found)
        fields.refuse_all(check_choice(self))
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Return the peers' names in the order of the file."""
        return tuple(peer.name for peer in self.peers)

    @property
    def called(self) -> str:
        """Return what peers call their mesh: nothing said in one epoch counts in another."""
        return f"{self.mesh}#{self.epoch}" if self.epoch else self.mesh

    @property
    def hops(self) -> int:
        """Return over how many edges a ballot travels; `all` is never used up, on no path."""
        if self.hub is not None:
            return 1
        if self.method.hops == "all":
            return min(len(self.peers), limits.HOPS_MAX)
        return self.method.hops

    @property
    def hub(self) -> str | None:
        """Return who aggregates for all others: the middle of a star, in a method that knows it."""
        star = self.method.name == "cfd" and self.graph.kind == "star"
        return self.names[0] if star else None

    @property
    def realm(self) -> str | None:
        """Return the name under which peers find each other by mDNS, None where they do not."""
        if isinstance(self.discovery, str):
            return self.discovery
        return self.mesh if self.discovery else None

    @property
    def pinned(self) -> bool:
        """Whether only peers whose IDs are known may take part, by this file alone."""
        stated = self.off_loopback or any(peer.id for peer in self.peers)
        return self.insecure is None and stated

    @property
    def off_loopback(self) -> bool:
        """Return whether the file names anything that other machines can reach or listen on."""
        return any(_leads_out(host) for _, host in _places(self))

    @property
    def shared_broker(self) -> tuple[str, int] | None:
        """Return host and port of the shared broker, or None where each peer has its own."""
        return fields.split_broker(self.broker) if self.broker.startswith("mqtt:") else None

    def peer(self, name: str) -> Peer:
        """Return the peer of this name; ConfigError that lists the names where there is none."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        names = ", ".join(self.names)
        close = nearest(name, list(self.names))
        raise ConfigError(f"mesh {self.mesh} has no peer '{name}'{close} its peers: {names}")

    def peer_for_host(self, hostname: str) -> Peer:
        """Return the peer named like this host, with or without its domain; ConfigError if none."""
        host = hostname.lower()
        for peer in self.peers:
            if peer.name in (host, host.partition(".")[0]):
                return peer
        names = ", ".join(self.names)
        raise ConfigError(
            f"no peer of mesh {self.mesh} is named like this host ('{hostname}'): "
            f"choose one with --peer: {names}"
        )

    def data_settings(self, peer_index: int) -> DataSettings:
        """Return which data a peer has: its share of a public set, or what it names itself."""
        task, own = self.task, self.peers[peer_index].data
        seed = task.partition.seed
        return DataSettings(
            source=own or task.data,
            data_dir=task.data_dir,
            bare=task.data,
            probes=task.probes.count,
            probe_source=task.probes.data,
            test=task.test,
            per_peer=task.partition.per_peer,
            dirichlet=task.partition.dirichlet,
            partition_seed=self.seed if seed is None else seed,
            pooled=self.method.name == "centralised",
            share=(peer_index, len(self.peers)) if own is None else None,
        )

    def train_settings(self, peer: Peer) -> TrainSettings:
        """Return how a peer trains."""
        return TrainSettings(
            model=peer.model or self.task.model,
            device=peer.device or self.task.device,
            local_epochs=self.rounds.local_epochs,
            local_steps=self.rounds.local_steps,
            batch_size=self.task.batch_size,
            learning_rate=self.task.learning_rate,
            optimiser=self.task.optimiser,
            momentum=self.task.momentum,
            prior=self.method.prior,
            witness=self.method.witness,
            levels=self.method.levels,
            temperature=self.method.temperature,
            initialise=self.method.initialise,
            place="peer" if self.hub is None else "hub" if peer.name == self.hub else "leaf",
            mu=self.method.mu,
            distil_epochs=self.method.distil_epochs,
            sampled_from=self.method.sampling,
            target="histogram" if self.method.name == "fd" else self.method.target,
        )

    def resolved(self) -> str:
        """Return the whole configuration as YAML, defaults included; it loads to an equal mesh."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return written(plain)


def load_mesh(path: Path) -> Mesh:
    """Read topology.yaml.

    Args:
        path: the file; relative folders in it are relative to its own.

    Raises:
        ConfigError: one line `file:line:column: field.path: message` for everything wrong in it.
    """
    document = read_document(path)
    problems = list(document.problems)
    try:
        mesh = Mesh.model_validate(document.data, context={"base": path.absolute().parent})
    except ValidationError as error:
        problems += [found.problem(document) for found in findings(error, Mesh)]
    if problems:
        raise ConfigError("\n".join(problem.line(str(path)) for problem in sorted(problems)))
    return mesh


def topology_dir() -> Path:
    """Return the folder of the ready-made meshes, in an installed package or in a checkout."""
    package = Path(__file__).parent
    installed = package / "topology"
    return installed if installed.is_dir() else package.parent / "topology"


def default_mesh() -> Mesh:
    """Return the mesh that runs when no file is given: eight peers in a ring on digits."""
    return load_mesh(topology_dir() / "ring-8.yaml")


def _places(mesh: Mesh) -> list[tuple[Where, str]]:
    places: list[tuple[Where, str]] = [(("listen",), mesh.listen)]
    if mesh.shared_broker:
        places.append((("broker",), mesh.shared_broker[0]))
    return places + [
        (("peers", i, "address"), peer.address or "localhost") for i, peer in enumerate(mesh.peers)
    ]


def _check_trust(mesh: Mesh) -> list[tuple[Where, str]]:
    """Off loopback every peer is pinned, which a shared broker cannot check, unless told not to."""
    trusted = "on a network that you trust, say so with `insecure: lab-network`"
    if mesh.insecure == "loopback":
        why = f"is not loopback, but the file says `insecure: loopback`; {trusted}"
        return [(where, f"{host} {why}") for where, host in _places(mesh) if _leads_out(host)]
    if mesh.shared_broker and mesh.pinned:
        why = f"a shared broker cannot check peers against their pinned IDs; {trusted}"
        return [(("broker",), why)]
    return []


def _leads_out(host: str) -> bool:
    return not fields.is_loopback(host)

"""Whom a peer trusts: its mode, decided at the start, and its pins, read again while it runs.

Off loopback peers are pinned unless the file says in so many words that they are not; on loopback
they are as soon as anybody has a pin.
"""

from collections.abc import Iterable
from pathlib import Path

import structlog

from tallynode.config import Mesh
from tallynode.edge.admission import Admission
from tallynode.edge.identity import load_or_make
from tallynode.edge.pins import FILE, pins_of
from tallynode.errors import ConfigError

log = structlog.get_logger(__name__)


def admission_of(mesh: Mesh, name: str, neighbours: Iterable[str], state: Path) -> Admission | None:
    """Who may connect to this peer; None: everybody, as the file allows.

    Args:
        mesh: the whole configuration.
        name: this peer's.
        neighbours: names of the peers that it links to.
        state: its state folder.

    Raises:
        ConfigError: no neighbour is pinned where they must be, or this device is another one.
        DataError, IoError: its key cannot be used.
    """
    if mesh.insecure == "lab-network":
        log.warning("INSECURE: anybody on this network can read the ballots and vote")
        return None
    pins = pins_of(mesh, state)
    if mesh.insecure == "loopback" or not (pins or mesh.off_loopback):
        return None
    identity = load_or_make(state)
    own = pins.pop(name, identity.id)
    if own != identity.id:
        raise ConfigError(
            f"this device is {identity.id}, but {name} is pinned as {own}: run it with the state "
            "folder that holds that key (--state-dir), or pin this one"
        )
    log.info("this device", id=identity.id)
    missing = sorted(set(neighbours) - set(pins))
    if len(missing) == len(set(neighbours)) and missing:
        raise ConfigError(
            f"mesh {mesh.mesh} is not only on loopback, and no neighbour of {name} "
            f"({', '.join(missing)}) is pinned in the topology or in {state / FILE}. Run "
            "`tallynode pair` here and there, with the same --state-dir; or write what `tallynode "
            "id` prints on each device as `id:` of its peer into the topology; or, on a network "
            "that you trust, say `insecure: lab-network`"
        )
    if missing:
        log.warning("not pinned, so not let in and not counted", neighbours=missing)
    return Admission(identity, pins, state / "identity", me=name)


def other_pins(mesh: Mesh, name: str, state: Path) -> dict[str, str]:
    """The pins of the other peers as they stand now. Raises ConfigError, IoError."""
    pins = pins_of(mesh, state)
    pins.pop(name, None)
    return pins

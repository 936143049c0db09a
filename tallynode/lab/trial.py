"""What the trials on real processes share: a light mesh, ports, and how a trial ends."""

import secrets
import socket
from collections.abc import Mapping
from typing import Any

from tallynode.config import Mesh
from tallynode.lab.bench import changed

LOOPBACK = "127.0.0.1"
OWN_PORTS = range(20_000, 32_768)  # below what Linux gives to whoever asks for any

# A peer of this costs a few milliseconds of CPU a round; the rounds go on until the trial ends.
LIGHT: dict[str, Any] = {
    "mesh": "trial",
    "graph": {"kind": "complete"},
    "peers": 5,
    "task": {
        "data": "digits",
        "model": "mlp",
        "test": 100,
        "probes": {"count": 100},
        "partition": {"dirichlet": 0.5, "per_peer": 60},
    },
    "rounds": {"count": 0, "local_steps": 2},
}


def light_mesh(peers: int, changes: Mapping[str, object]) -> Mesh:
    """A small mesh under a name of its own on loopback, with other values at dotted keys."""
    plain = {**LIGHT, "mesh": f"trial-{secrets.token_hex(4)}", "peers": peers}
    return changed(Mesh.model_validate(plain), changes)


def fixed_ports(mesh: Mesh) -> Mesh:
    """The same mesh with an address on loopback for every peer, and no discovery."""
    ports = free_ports(len(mesh.peers))
    peers = [
        {"name": name, "address": LOOPBACK, "port": port}
        for name, port in zip(mesh.names, ports, strict=True)
    ]
    return changed(mesh, {"peers": peers, "discovery": False})


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now, and that nobody is given by chance.

    A port that the kernel has chosen it may choose again, for a connection or, as it happened, for
    the very proxy that is to stand before it.
    """
    held: list[socket.socket] = []
    try:
        for port in secrets.SystemRandom().sample(OWN_PORTS, len(OWN_PORTS)):
            if len(held) == count:
                break
            probe = socket.socket()
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                probe.close()
            else:
                held.append(probe)
        return [int(probe.getsockname()[1]) for probe in held]
    finally:
        for probe in held:
            probe.close()

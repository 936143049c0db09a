"""The outbox behind one small interface, whoever serves it.

A peer writes to its own broker and nobody else does; neighbours subscribe. Three kinds stand behind
the interface: the embedded outbox (in process, the default), a supervised mosquitto, and a shared
broker elsewhere. On the first two a topic stands as it is; on a shared broker, where all peers
write, it stands under `shared_prefix(mesh, peer)`, and the retained status topic below it says
whether the peer is there, since the connection to the broker no longer does.
"""

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tallynode.edge.admission import Admission
from tallynode.edge.dial import Endpoint
from tallynode.edge.meter import Traffic
from tallynode.edge.mosquitto import MosquittoBroker
from tallynode.edge.outbox import Outbox
from tallynode.edge.shared_broker import SharedBroker
from tallynode.errors import ConfigError

MQTT_PORT = 1883


class Broker(Protocol):
    """Where one peer publishes and its neighbours read."""

    async def start(self) -> tuple[str, int]:
        """Serve; the (host, port) at which neighbours reach it. Raises IoError."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Hand a message to every subscriber; a retained one also to later subscribers."""

    async def pins_changed(self) -> None:
        """Who may read has changed: let the others in, and part from who may not any more."""

    async def stop(self) -> None:
        """Close everything; nothing is left running."""

    def traffic(self) -> Traffic:
        """Wire bytes of this broker's connections, open and closed, since the start."""


def make_broker(
    kind: str,
    *,
    name: str,
    mesh: str,
    address: tuple[str, int],
    run_dir: Path,
    admission: Admission | None = None,
) -> Broker:
    """The broker that topology.yaml names: embedded, mosquitto or mqtt://[user:pw@]host[:port].

    Args:
        kind: the `broker` key of topology.yaml.
        name: this peer's name.
        mesh: the mesh's name.
        address: host and port to listen on (embedded, mosquitto); port 0 lets the system choose.
        run_dir: folder for the files of a broker that needs some.
        admission: who may read (embedded, mosquitto); None: everybody who reaches it.
    """
    if kind == "embedded":
        return Outbox(*address, admission)
    if kind == "mosquitto":
        return MosquittoBroker(name=name, address=address, run_dir=run_dir, admission=admission)
    return SharedBroker(mesh=mesh, name=name, endpoint=shared_endpoint(kind))


def shared_endpoint(kind: str) -> Endpoint:
    """The address in mqtt://[user:password@]host[:port]. Raises ConfigError."""
    url = urlsplit(kind)
    try:
        port = url.port or MQTT_PORT
    except ValueError:
        raise ConfigError(f"broker: {kind!r} has a port that is none") from None
    if url.scheme != "mqtt" or not url.hostname:
        raise ConfigError(f"broker: {kind!r} is none of embedded, mosquitto, mqtt://host:port")
    return Endpoint(url.hostname, port, url.username, url.password)

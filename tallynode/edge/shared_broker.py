"""A broker elsewhere that several peers share: mosquitto, EMQX, a cluster.

For fleets that outgrow one network. Each peer writes under `<mesh>/<peer>/` only; who may write
where is that broker's access control, not ours. Its retained messages outlive a peer that is
killed, so a peer clears at the start what an earlier run left, and at the end what it wrote.
"""

from tallynode.edge.dial import Endpoint
from tallynode.edge.meter import OWN_ENDS, Meter, Traffic
from tallynode.edge.publisher import Publisher
from tallynode.errors import IoError


def shared_prefix(mesh: str, peer: str) -> str:
    """What a peer's topics stand under on a shared broker."""
    return f"{mesh}/{peer}/"


class SharedBroker:
    """One peer's place on a shared broker."""

    def __init__(self, *, mesh: str, name: str, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._meter = Meter(OWN_ENDS)
        prefix = shared_prefix(mesh, name)
        self._publisher = Publisher(endpoint, prefix, meter=self._meter, shared_prefix=prefix)

    async def start(self) -> tuple[str, int]:
        """Connect; the (host, port) of the shared broker. Raises IoError."""
        host, port = self._endpoint.host, self._endpoint.port
        try:
            await self._publisher.start()
        except IoError as error:
            raise IoError(f"broker mqtt://{host}:{port}: {error}") from None
        return host, port

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Queue a message under our prefix."""
        self._publisher.publish(topic, payload, retain=retain)

    async def pins_changed(self) -> None:
        """Nothing to do: who may read here is the shared broker's to say."""

    async def stop(self) -> None:
        """Clear what we wrote and disconnect."""
        await self._publisher.stop()

    def traffic(self) -> Traffic:
        """Wire bytes of our own connection to the broker."""
        return self._meter.traffic()

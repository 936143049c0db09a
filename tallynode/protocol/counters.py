"""What a peer published and heard, in payload bytes: the lengths that the codecs made, exactly."""

from dataclasses import dataclass, field

PAYLOADS = ("ballot", "delta", "soft")  # classes of bytes, beside control


@dataclass(slots=True)
class Counters:
    """Payload bytes by class, and messages refused."""

    payload: str = "ballot"  # the class of this mesh's ballots: ballot | soft | delta
    ballot: int = 0  # published, own and relayed
    relayed: int = 0  # the part of `ballot` that others cast
    control: int = 0
    received_ballot: int = 0  # first copies
    received_duplicate: int = 0  # further copies, and ballots that a later one has overtaken
    received_control: int = 0
    delta: int = 0  # published beside the ballots
    received_delta: int = 0
    refused: int = 0
    by_coding: dict[str, int] = field(default_factory=dict)  # contents alone, of what is published

    def fields(self) -> dict[str, object]:
        """The counters as they stand in a round's record."""
        sent = {name: self.ballot * (name == self.payload) for name in PAYLOADS}
        sent["delta"] += self.delta
        heard = {name: self.received_ballot * (name == self.payload) for name in PAYLOADS}
        heard["delta"] += self.received_delta
        return {
            "payload_bytes": {**sent, "control": self.control},
            "relayed_bytes": self.relayed,
            "payload_received": {
                **heard,
                "duplicate": self.received_duplicate,
                "control": self.received_control,
            },
            "coded_bytes": dict(self.by_coding),
            "refused": self.refused,
        }

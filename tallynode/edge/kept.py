"""Messages that a peer keeps over a restart: the keys of others, and proofs against them."""

from pathlib import Path

import msgpack
import structlog

from tallynode.edge.storage import atomic_write
from tallynode.errors import IoError

log = structlog.get_logger(__name__)


class Kept:
    """A small file of messages by topic, written as a whole.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.messages = self._read()

    def keep(self, topic: str, data: bytes) -> None:
        """Keep a message, in place of an earlier one on that topic. Raises IoError."""
        if self.messages.get(topic) == data:
            return
        self.messages[topic] = data
        atomic_write(self._path, bytes(msgpack.packb(self.messages)))

    def _read(self) -> dict[str, bytes]:
        """What the file holds; nothing where it is damaged, since the mesh tells it again."""
        try:
            found = msgpack.unpackb(self._path.read_bytes())
            fine = isinstance(found, dict) and all(
                isinstance(topic, str) and isinstance(data, bytes) for topic, data in found.items()
            )
            if fine:
                return dict(found)
            why = "not a table of messages"
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, msgpack.UnpackException) as error:
            why = str(error)
        log.warning("kept messages dropped", file=str(self._path), why=why)
        return {}


def keep_or_say(kept: Kept, topic: str, data: bytes) -> None:
    """Keep a message; where the disk refuses, the mesh has to tell it again after a restart."""
    try:
        kept.keep(topic, data)
    except IoError as error:
        log.warning("not kept for the next start", topic=topic, why=str(error))

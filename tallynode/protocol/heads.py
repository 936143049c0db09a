"""What the heads of all messages share: how they are unpacked, and the checks of their fields."""

import hashlib
from functools import lru_cache
from typing import Any

import msgpack

from tallynode.errors import RemoteError
from tallynode.protocol import limits

MESH_TAG_BYTES = 2
HEAD_BYTES_MAX = 256  # bytes of the msgpack head; the unpacker never buffers more


@lru_cache(maxsize=16)  # meshes; asked for each message, nearly always of one
def mesh_tag(mesh: str) -> int:
    """16 bits that tell ballots of this mesh from those of another."""
    return int.from_bytes(hashlib.blake2b(mesh.encode(), digest_size=MESH_TAG_BYTES).digest())


def split(data: bytes, sender: str) -> tuple[list[Any], bytes]:
    """The msgpack head and what follows it."""
    if len(data) > limits.MESSAGE_BYTES_MAX:
        raise RemoteError(sender, f"sent {len(data)} bytes, more than {limits.MESSAGE_BYTES_MAX}")
    unpacker = msgpack.Unpacker(
        max_buffer_size=HEAD_BYTES_MAX,
        max_array_len=8,
        max_map_len=0,
        max_str_len=limits.NAME_BYTES_MAX * 2,
        max_bin_len=limits.SIGNATURE_BYTES,
        max_ext_len=0,
    )
    unpacker.feed(data[:HEAD_BYTES_MAX])
    try:
        head = unpacker.unpack()
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteError(sender, "sent bytes that are not a message") from error
    if not isinstance(head, list) or not head or type(head[0]) is not int:
        raise RemoteError(sender, "sent bytes that are not a message")
    return head, data[unpacker.tell() :]


def is_count(value: object, low: int, high: int) -> bool:
    """Whether a field is a whole number within bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_bytes(value: object, size: int) -> bool:
    """Whether a field is so many bytes."""
    return isinstance(value, bytes) and len(value) == size


def is_name(value: object) -> bool:
    """Whether a field can name a mesh or a peer."""
    return (
        isinstance(value, str) and 1 <= len(value.encode(errors="replace")) <= limits.NAME_BYTES_MAX
    )


def check_mesh(head: list[Any], fields: int, sender: str, mesh: str) -> None:
    """Whether a short message has so many fields, and is of this mesh."""
    if len(head) != fields:
        raise RemoteError(sender, f"sent a message with {len(head)} fields")
    if type(head[1]) is not int or head[1] != mesh_tag(mesh):
        raise RemoteError(sender, "sent a message that belongs to another mesh", differs=True)

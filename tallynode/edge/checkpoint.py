"""A peer's state as bytes: the protocol's own bytes and the tensors, without pickle.

Layout: msgpack {"protocol": bytes, "tensors": safetensors}. Torch is imported where it is used, so
that a process without a trainer stays small.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import structlog

from tallynode.edge.storage import CheckpointStore, atomic_write
from tallynode.errors import DataError
from tallynode.protocol import snapshot as snap
from tallynode.protocol.ballots import BallotBox
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.contents import contents_of
from tallynode.protocol.settings import PeerSettings

if TYPE_CHECKING:
    from torch import Tensor


CURE = "use another folder, or remove its checkpoints to begin anew (key and pins may stay)"

log = structlog.get_logger(__name__)


def pack(protocol: bytes, tensors: "dict[str, Tensor]") -> bytes:
    """Return protocol bytes and named tensors as one body; tensors may be views of one another."""
    import safetensors.torch
    import torch

    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    body = {"protocol": protocol, "tensors": safetensors.torch.save(own)}
    return bytes(msgpack.packb(body))


def unpack(body: bytes) -> "tuple[bytes, dict[str, Tensor]]":
    """Return what `pack` was given, tensors on the CPU; DataError on anything else."""
    import safetensors
    import safetensors.torch

    try:
        parts = msgpack.unpackb(body)
        protocol, tensors = parts["protocol"], parts["tensors"]
        loaded = safetensors.torch.load(tensors)
    except (
        ValueError,  # msgpack's own errors are ValueErrors
        KeyError,
        TypeError,
        msgpack.UnpackException,
        safetensors.SafetensorError,
    ) as error:
        raise DataError(f"a checkpoint's body cannot be read: {error}") from error
    if not isinstance(protocol, bytes):
        raise DataError("a checkpoint's body cannot be read: its protocol part is not bytes")
    return protocol, loaded


def write_model(path: Path, weights: "dict[str, Tensor]", about: Mapping[str, str]) -> None:
    """Write a net's weights as safetensors, with what they are in the file's metadata."""
    import safetensors.torch

    own = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    atomic_write(path, safetensors.torch.save(own, metadata=dict(about)))


def resume(
    store: CheckpointStore, mine: PeerSettings
) -> "tuple[snap.Snapshot, dict[str, Tensor]] | None":
    """Return what an earlier life of this peer saved, None if there is nothing.

    Raises:
        DataError: the folder holds the state of another peer, mesh, probe set or seed.
    """
    loaded = store.load()
    for damaged in store.damaged:
        log.warning("damaged checkpoint passed over", file=damaged)
    if loaded is None:
        return None
    protocol, tensors = unpack(loaded.body)
    try:
        snapshot = snap.decode(protocol)
    except DecodeError as error:
        raise DataError(f"{store.folder}: {error}") from error
    if (snapshot.mesh, snapshot.name, snapshot.probe_digest) != (
        mine.mesh,
        mine.name,
        mine.probe_digest,
    ):
        raise DataError(
            f"{store.folder}: holds the state of peer {snapshot.name} of mesh {snapshot.mesh} on "
            f"probe set {snapshot.probe_digest.hex()}, not of {mine.name} of {mine.mesh} on "
            f"{mine.probe_digest.hex()}; {CURE}"
        )
    if snapshot.seed not in (None, mine.seed):
        raise DataError(
            f"{store.folder}: holds a ballot on probes that seed {snapshot.seed} drew, but the "
            f"seed is now {mine.seed}; {CURE}"
        )
    count = mine.parameters or mine.entries
    if snapshot.count != count:
        raise DataError(
            f"{store.folder}: holds a ballot of {snapshot.count} entries, but they are now of "
            f"{count}; {CURE}"
        )
    try:
        contents_of(mine, BallotBox(0)).restore(snapshot.body)
    except DecodeError as error:
        raise DataError(f"{store.folder}: holds a damaged ballot: {error}") from error
    # A newer state is lost with each damaged file, and with it the round that was voted in then.
    lost = mine.rounds.save_every * len(store.damaged)
    return replace(snapshot, covered=snapshot.covered + lost), tensors

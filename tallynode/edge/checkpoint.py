"""A peer's state as bytes: the protocol's own bytes and the tensors, without pickle.

Layout: msgpack {"protocol": bytes, "tensors": safetensors}. Torch is imported where it is used, so
that a process without a trainer stays small.
"""

from typing import TYPE_CHECKING

import msgpack

from tallynode.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


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

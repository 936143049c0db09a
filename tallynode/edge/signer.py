"""Signatures with this device's key, and by whose key a ballot of a pinned peer must be signed."""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tallynode.edge.admission import Admission
from tallynode.edge.identity import device_of_key
from tallynode.errors import DataError

KEYS_REMEMBERED = 1024  # keys whose ID need not be computed again at each ballot

_device_of_key = lru_cache(KEYS_REMEMBERED)(device_of_key)


class DeviceSigner:
    """The protocol's Signer, on this device's identity and its pins as they stand at each call.

    Args:
        admission: holds both.

    Raises:
        DataError: the key has been replaced on the disk meanwhile by another kind.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        pem = admission.identity.pem
        key = serialization.load_pem_private_key(pem.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise DataError(f"{pem}: not an Ed25519 key")
        self._key = key
        self._public_key = key.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """Of this device, 32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """This device's signature, 64 bytes."""
        return self._key.sign(message)

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether a key has signed a message."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def owns(self, origin: str, public_key: bytes) -> bool:
        """Whether that is the key which is pinned for a peer, now."""
        if origin == self._admission.me:
            return public_key == self._public_key
        return self._admission.pin_of(origin) == _device_of_key(public_key)

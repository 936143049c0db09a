"""A peer is its key: an Ed25519 key, made once, in a self-signed certificate.

The certificate says nothing that the key does not: names, serial number, validity and extensions
follow from the public key, and an Ed25519 signature is deterministic. So there is one certificate
for a key; a pinned ID (the hash of the key) decides about the whole of it, and anything else that
the key's owner may have signed, a CA certificate or a child's, is not a peer's certificate. It is
valid from 2000, so that a Pi without a clock still starts.
"""

import contextlib
import datetime
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from tallynode.edge.storage import atomic_write, make_folder
from tallynode.errors import DataError, IoError
from tallynode.protocol import device_id

_KEY_HEAD = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of Ed25519, in DER
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64  # the last ones of a certificate
_NOT_BEFORE = datetime.datetime(2000, 1, 1)
_NOT_AFTER = datetime.datetime(2099, 12, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """This device's own key and certificate, as they lie on its disk."""

    id: str  # device ID
    certificate: bytes  # DER
    pem: Path  # private key and certificate, readable by this user only


def load_or_make(state: Path) -> Identity:
    """The identity in a state folder, made at the first call.

    Raises:
        DataError: the file is damaged or holds another kind of key; it is never overwritten.
        IoError: it cannot be read or written, or others may read it.
    """
    folder = state / "identity"
    path = folder / "key.pem"
    make_folder(state)
    make_folder(folder)
    with _alone_in(folder):
        if not path.exists():
            key = Ed25519PrivateKey.generate()
            atomic_write(path, _key_pem(key) + pem_of(certificate_of(key)))
    return _load(path)


def give_to_owner(state: Path) -> None:
    """Root may prepare a service's state: what it made there belongs to the folder's owner."""
    if os.geteuid() != 0:
        return
    owner = state.stat()
    identity = state / "identity"
    for path in (state / "pins.yaml", state / "lock", *identity.rglob("*"), identity):
        if path.exists():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def certificate_of(key: Ed25519PrivateKey) -> bytes:
    """The one certificate of a key, as DER."""
    return _build(key.public_key(), key).public_bytes(serialization.Encoding.DER)


def device_of(certificate: bytes) -> str:
    """The ID of the device whose certificate this is.

    Raises:
        ValueError: no peer's certificate: of another kind, or not what its key implies.
    """
    # Nothing is parsed: all but the signature must be what our own builder makes for that key, and
    # who signs this twin does not matter.
    at = certificate.find(_KEY_HEAD) + len(_KEY_HEAD)
    raw_key = certificate[at : at + _KEY_BYTES]
    if len(raw_key) != _KEY_BYTES:
        raise ValueError("certificate of another kind of key")
    key = Ed25519PublicKey.from_public_bytes(raw_key)
    twin = _build(key, Ed25519PrivateKey.generate())
    whole = twin.public_bytes(serialization.Encoding.DER)
    if certificate[:-_SIGNATURE_BYTES] != whole[:-_SIGNATURE_BYTES]:
        raise ValueError("certificate is not the one that follows from its key")
    try:
        key.verify(certificate[-_SIGNATURE_BYTES:], twin.tbs_certificate_bytes)
    except InvalidSignature:
        raise ValueError("certificate is not signed by its own key") from None
    return _id_of(key)


def device_of_key(raw_key: bytes) -> str:
    """The ID of the device with this public key of 32 bytes."""
    return device_id.of_public_key(_KEY_HEAD + raw_key)


def pem_of(certificate: bytes) -> bytes:
    """A DER certificate as PEM."""
    parsed = x509.load_der_x509_certificate(certificate)
    return parsed.public_bytes(serialization.Encoding.PEM)


def common_name(device: str) -> str:
    """The name in a device's certificate: its ID without dashes, to fit X.509's 64 letters."""
    return device.replace("-", "")


def _build(public: Ed25519PublicKey, signer: Ed25519PrivateKey) -> x509.Certificate:
    subject = common_name(_id_of(public))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False
        )
        .sign(signer, None)
    )


def _id_of(key: Ed25519PublicKey) -> str:
    return device_of_key(key.public_bytes_raw())


def _load(path: Path) -> Identity:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        raw = path.read_bytes()
    except OSError as error:
        raise IoError(f"{path}: cannot read: {error.strerror}") from error
    if mode & 0o077:
        raise IoError(f"{path}: others may read this private key (mode {mode:o}): chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(raw, password=None)
        certificate = x509.load_pem_x509_certificate(raw)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a private key with its certificate: damaged") from error
    der = certificate.public_bytes(serialization.Encoding.DER)
    if not isinstance(key, Ed25519PrivateKey) or der != certificate_of(key):
        raise DataError(f"{path}: its certificate does not follow from its key")
    return Identity(id=_id_of(key.public_key()), certificate=der, pem=path)


def _key_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two first starts at once must not make two keys; a running peer is not in the way."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

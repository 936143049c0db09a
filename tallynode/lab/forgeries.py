"""Certificates that a peer's key can sign, or somebody else's, and that must open no door."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PEM = serialization.Encoding.PEM


def child_of(pem: Path, to: Path) -> Path:
    """A new key with a certificate that a peer's key has signed, and the chain, as PEM."""
    signer, parent = _read(pem)
    key = Ed25519PrivateKey.generate()
    return _write(to, key, [_certificate(parent, key, signer, ca=False), parent])


def second_of(pem: Path, to: Path) -> Path:
    """A peer's key with another certificate, CA:TRUE as openssl makes them, as PEM."""
    key, first = _read(pem)
    return _write(to, key, [_certificate(first, key, key, ca=True)])


def _certificate(
    model: x509.Certificate, key: Ed25519PrivateKey, signer: Ed25519PrivateKey, *, ca: bool
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(model.subject)
        .issuer_name(model.subject)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(model.not_valid_before_utc)
        .not_valid_after(model.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, None)
    )


def _read(pem: Path) -> tuple[Ed25519PrivateKey, x509.Certificate]:
    raw = pem.read_bytes()
    key = serialization.load_pem_private_key(raw, None)
    assert isinstance(key, Ed25519PrivateKey)
    return key, x509.load_pem_x509_certificate(raw)


def _write(to: Path, key: Ed25519PrivateKey, chain: list[x509.Certificate]) -> Path:
    private = key.private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    to.write_bytes(private + b"".join(each.public_bytes(_PEM) for each in chain))
    return to

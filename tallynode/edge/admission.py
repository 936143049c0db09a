"""Who may connect: mutual TLS 1.3 against the pinned IDs, in both directions.

A pin is the hash of a key, and Python's ssl verifies a client's certificate only against
certificates that it has already: it has no callback in which a hash could be compared. (pyOpenSSL
has one, but no asyncio; raw public keys, RFC 7250, are in neither.) A neighbour's certificate is
therefore learnt where no trust is needed, and then trusted exactly:

- As a client we connect without a check of the chain, take the certificate that the server proved
  to own, and compare its ID with the pin before a byte is sent. So we get to know it.
- As a server we trust the certificates learnt in this way, and no others, and compare what was
  presented byte for byte once more after the handshake.

Every neighbour is both client and server. At the very first contact a peer is refused until its
neighbour has also connected to it, a second later; the certificates are kept for the next start. A
neighbour that can never be reached must have been learnt by `tallynode pair`.

A peer's certificate is CA:FALSE and must be the one that follows from its key (identity.py), so
that neither a child certificate nor a second one of a pinned key opens the door. There are no
session tickets: a removed pin cannot come back by resumption.
"""

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import structlog

from tallynode.edge.dial import ConnectionFailed, Tls, TlsSocket
from tallynode.edge.identity import Identity, device_of, pem_of
from tallynode.edge.storage import atomic_write, make_folder
from tallynode.errors import IoError

log = structlog.get_logger(__name__)


class Admission:
    """The pins of one peer, and the certificates that prove them.

    Args:
        identity: this peer's own.
        pins: device IDs by name, this peer's own name left out.
        folder: where learnt certificates are kept.
        me: this peer's name.
    """

    def __init__(
        self, identity: Identity, pins: Mapping[str, str], folder: Path, *, me: str = ""
    ) -> None:
        self.identity = identity
        self.me = me
        self.on_learnt: Callable[[], None] = lambda: None
        self._folder = folder
        self._pins: dict[str, str] = {}
        self._shunned: frozenset[str] = frozenset()
        self._certificates: dict[str, bytes] = {}
        self._server: ssl.SSLContext | None = None
        self._client = client_context(identity)
        self.set_pins(pins)

    @property
    def pinned(self) -> frozenset[str]:
        """Names of the peers that have a pin."""
        return frozenset(self._pins)

    @property
    def pins(self) -> Mapping[str, str]:
        """Device IDs by name."""
        return self._pins

    def set_pins(self, pins: Mapping[str, str]) -> None:
        """Replace all pins; holds from the next handshake on."""
        self._pins = dict(pins)
        self._certificates = {}
        self._server = None
        for name, device in self._pins.items():
            certificate = self._stored(name, device)
            if certificate is not None:
                self._certificates[name] = certificate

    def pin_of(self, name: str) -> str | None:
        """The device ID that a peer is pinned by."""
        return self._pins.get(name)

    def set_shunned(self, names: frozenset[str]) -> None:
        """Let these pinned peers in no more, and all others again."""
        self._shunned = names
        self._server = None

    def who(self, certificate: bytes | None) -> str | None:
        """The pinned peer that has exactly this certificate; "" is this peer itself."""
        if certificate == self.identity.certificate:
            return ""
        return next((n for n, known in self._let_in().items() if known == certificate), None)

    def certificates(self) -> list[bytes]:
        """The certificates (DER) that are let in, our own among them."""
        return [self.identity.certificate, *self._let_in().values()]

    def _let_in(self) -> dict[str, bytes]:
        return {n: known for n, known in self._certificates.items() if n not in self._shunned}

    def server_context(self) -> ssl.SSLContext:
        """TLS for our outbox, as of the pins and certificates known now."""
        if self._server is None:
            self._server = _server_context(self.identity, self.certificates())
        return self._server

    def link_to(self, name: str) -> Tls:
        """TLS for a connection to a neighbour's broker."""
        return Tls(self._client, partial(self._meet, name))

    def link_to_self(self) -> Tls:
        """TLS for a connection to a broker of our own in another process."""

        def check(certificate: bytes) -> None:
            if certificate != self.identity.certificate:
                raise ConnectionFailed("our broker's port is held by somebody else")

        return Tls(self._client, check)

    def _meet(self, name: str, certificate: bytes) -> None:
        """Compare what a neighbour's broker presented with its pin; learn it. ConnectionFailed."""
        try:
            device = device_of(certificate)
        except ValueError as error:
            raise ConnectionFailed(f"not {name}: {error}") from None
        if device != self._pins.get(name):
            raise ConnectionFailed(f"not {name} but {device}, which is not its pinned ID")
        if self._certificates.get(name) == certificate:
            return
        self._certificates[name] = certificate
        self._server = None
        log.info("met", neighbour=name, id=device)
        try:
            keep_certificate(self._folder, name, certificate)
        except IoError as error:
            log.warning("certificate not kept for the next start", why=str(error))
        self.on_learnt()

    def _stored(self, name: str, device: str) -> bytes | None:
        try:
            certificate = ssl.PEM_cert_to_DER_cert(_path(self._folder, name).read_text("ascii"))
            return certificate if device_of(certificate) == device else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # it can be learnt again
            log.warning("kept certificate dropped", neighbour=name, why=str(error))
            return None


def keep_certificate(folder: Path, name: str, certificate: bytes) -> None:
    """Keep a peer's certificate for the next start. Raises IoError."""
    path = _path(folder, name)
    make_folder(path.parent)
    atomic_write(path, pem_of(certificate))


def client_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 as a client that shows its certificate and checks the server's itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # possession of the key is proved all the same
    context.load_cert_chain(identity.pem)
    context.sslsocket_class = TlsSocket
    return context


def _server_context(identity: Identity, trusted: list[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    context.load_cert_chain(identity.pem)
    context.load_verify_locations(cadata=b"".join(trusted))
    return context


def _path(folder: Path, name: str) -> Path:
    return folder / "neighbours" / f"{name}.pem"

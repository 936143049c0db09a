"""Keys and certificates on disk, and which certificates are a peer's."""

import datetime
import hashlib
import multiprocessing
import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tallynode.edge import identity, pair
from tallynode.edge.admission import keep_certificate
from tallynode.edge.identity import certificate_of, device_of, give_to_owner, load_or_make
from tallynode.edge.pins import add_pin
from tallynode.errors import DataError, IoError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def make_and_tell(state: Path, found: Any) -> None:
    """What one of several processes that start at once does."""
    found.put(load_or_make(state).id)


def certificate(key: Any, signer: Any, *, ca: bool = False, days: int = 30) -> bytes:
    """A certificate such as a person could make with openssl, as DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pi")])
    start = datetime.datetime(2026, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey) else None)
    )
    return made.public_bytes(serialization.Encoding.DER)


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    """The second call finds the first one's; folder and file are for this user only."""
    state = tmp_path / "state"
    first = load_or_make(state)
    assert load_or_make(state) == first
    assert device_of(first.certificate) == first.id
    assert stat.S_IMODE(first.pem.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.pem.parent.stat().st_mode) == 0o700
    assert list(first.pem.parent.iterdir()) == [first.pem]


def test_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    """Nobody goes on with a key that another start has overwritten."""
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    starts = [context.Process(target=make_and_tell, args=(tmp_path, found)) for _ in range(3)]
    for start in starts:
        start.start()
    ids = {found.get(timeout=60) for _ in starts}
    for start in starts:
        start.join(60)
    assert ids == {load_or_make(tmp_path).id}


def test_a_certificate_follows_from_its_key() -> None:
    """The same bytes on every device and with every later version of the library."""
    made = certificate_of(KEY)
    assert device_of(made) == "TALLY-M188T-6ZC5J-0W2R4-5K7Q2-755G7-K244N-FK1H2-5JW8P"
    assert hashlib.sha256(made).hexdigest() == (
        "28c0f23c4f5b7e5a733968b193284843092928ff292961b9972c0a811a292a5d"
    )
    parsed = x509.load_der_x509_certificate(made)
    basic = parsed.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.value.ca, basic.critical) == (False, True)
    assert (parsed.not_valid_before_utc.year, parsed.not_valid_after_utc.year) == (2000, 2099)


OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
CURVE = ec.generate_private_key(ec.SECP256R1())
NOT_A_PEERS: dict[str, Callable[[], bytes]] = {
    "of its own making": lambda: certificate(KEY, KEY),
    "a CA certificate": lambda: certificate(KEY, KEY, ca=True),
    "signed by another pinned key": lambda: certificate(OTHER, KEY),
    "another kind of key": lambda: certificate(CURVE, CURVE),
    "its own, but signed by somebody else": lambda: identity._build(
        KEY.public_key(), OTHER
    ).public_bytes(serialization.Encoding.DER),
    "its own with a byte flipped": lambda: (
        certificate_of(KEY)[:-1] + bytes([certificate_of(KEY)[-1] ^ 1])
    ),
    "its own with something appended": lambda: certificate_of(KEY) + b"\0",
    "cut short": lambda: certificate_of(KEY)[:-1],
    "nothing": lambda: b"",
    "huge": lambda: bytes(5000),
}


@pytest.mark.parametrize("case", NOT_A_PEERS)
def test_no_other_certificate_is_a_peers(case: str) -> None:
    """Only the one that follows from a key speaks for its ID; all else is one kind of error."""
    with pytest.raises(ValueError, match=r"\w"):
        device_of(NOT_A_PEERS[case]())


@given(st.data())
def test_bytes_from_strangers_give_one_kind_of_error(data: st.DataObject) -> None:
    """Whatever is done to a certificate, it is a ValueError, or it was not changed at all."""
    whole = certificate_of(KEY)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 40, len(whole))))
    changed = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    if changed != whole:
        with pytest.raises(ValueError, match="certificate"):
            device_of(changed)


@pytest.mark.parametrize("damage", ["", "not a key", "cut"])
def test_a_damaged_key_is_said_and_never_overwritten(tmp_path: Path, damage: str) -> None:
    """An identity that others have pinned is not thrown away because a file looks odd."""
    path = load_or_make(tmp_path).pem
    text = path.read_text()[:150] if damage == "cut" else damage
    path.write_text(text)
    with pytest.raises(DataError, match=r"key\.pem"):
        load_or_make(tmp_path)
    assert path.read_text() == text


def test_a_foreign_certificate_beside_the_key_is_refused(tmp_path: Path) -> None:
    """Key and certificate must belong together."""
    path = load_or_make(tmp_path / "a").pem
    other = load_or_make(tmp_path / "b")
    key = path.read_text().split("-----BEGIN CERTIFICATE")[0]
    path.write_text(key + ssl.DER_cert_to_PEM_cert(other.certificate))
    with pytest.raises(DataError, match="does not follow from its key"):
        load_or_make(tmp_path / "a")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """As ssh does: the message says what to do."""
    path = load_or_make(tmp_path).pem
    path.chmod(0o640)
    with pytest.raises(IoError, match=r"mode 640\): chmod 600"):
        load_or_make(tmp_path)


@pytest.mark.privileged
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_prepares_belongs_to_the_service(tmp_path: Path) -> None:
    """`id` and `pair` run as root on a service's state folder leave files that it can read."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    made = load_or_make(state)
    add_pin(state, "b", made.id)
    keep_certificate(state / "identity", "b", made.certificate)
    give_to_owner(state)
    pair._tell_running_peer(state)  # looks whether somebody holds the folder: the last file made
    assert (state / "lock").exists()
    assert {path.stat().st_uid for path in state.rglob("*")} == {65534}

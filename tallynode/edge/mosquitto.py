"""A mosquitto of our own, supervised: it is started, watched, and dies with its peer.

For those who trust a broker of many years more than the embedded one. Where peers are pinned it
demands one of their certificates (admission.py) and lets the one with our own write; else anonymous
clients may read, and only the peer, with a random password of this run, may write. It reads its
certificates when it starts, so that new ones cost a restart of some 15 ms.

Its memory is bounded, it runs without privileges (started by root it would drop them itself, and
with them the order to die with us: see guard.py; its user can then read the copy of our key), and
it is started again if it dies; the publisher then brings its retained messages back.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import socket
import sys
from pathlib import Path

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from tallynode.edge import guard
from tallynode.edge.admission import Admission
from tallynode.edge.client import BACKOFF_S
from tallynode.edge.dial import Endpoint
from tallynode.edge.identity import common_name, pem_of
from tallynode.edge.meter import OWN_ENDS, Meter, Traffic
from tallynode.edge.outbox import CONNECTIONS_MAX, listen_failure
from tallynode.edge.publisher import Publisher
from tallynode.errors import IoError

START_WITHIN_S = 10.0  # seconds until it says that it is running; 10 ms are usual
TERMINATE_AGAIN_S = 0.5  # seconds until a child that is to be started again is told once more
STOP_WITHIN_S = 2.0  # seconds to end by itself before it is killed
PORT_ATTEMPTS = 5  # free ports tried; another program may take one before mosquitto does
OWNER = "owner"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where we reach a broker that listens everywhere
SBIN = "/usr/sbin:/usr/local/sbin"  # where Debian puts it, and not every user's PATH looks
UNPRIVILEGED = ("mosquitto", "nobody")  # users, the first that exists

# Bounds: connections; one packet; what waits for one slow subscriber; the heap as a whole.
CONFIG = """\
listener {port} {host}
{access}
acl_file acl
persistence false
set_tcp_nodelay true
max_connections {connections}
max_packet_size 1048576
max_queued_bytes 8388608
memory_limit 67108864
max_keepalive 300
sys_interval 0
connection_messages false
log_dest stderr
log_timestamp false
"""
OPEN = "allow_anonymous true\npassword_file passwords"
PINNED = """\
allow_anonymous false
cafile pinned.pem
certfile key.pem
keyfile key.pem
require_certificate true
use_identity_as_username true
tls_version tlsv1.3"""
ACL = "topic read #\npattern read #\n\nuser {owner}\ntopic readwrite #\n"

log = structlog.get_logger(__name__)


class MosquittoBroker:
    """A child process that serves what its peer publishes."""

    def __init__(
        self,
        *,
        name: str,
        address: tuple[str, int],
        run_dir: Path,
        admission: Admission | None = None,
    ) -> None:
        self._name = name
        self._host, self._port = address
        self._admission = admission
        self._renewing = False  # it ends because we want it started with other certificates
        self._folder = run_dir / f"mosquitto-{name}"
        self._meter = Meter(OWN_ENDS)
        self._password = secrets.token_hex(16)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._publisher: Publisher | None = None
        self._said = ""  # its last line on stderr

    @property
    def pid(self) -> int | None:
        """Process ID of the running mosquitto."""
        return None if self._process is None else self._process.pid

    async def start(self) -> tuple[str, int]:
        """Start the child and connect to it; its (host, port). Raises IoError."""
        binary = find_mosquitto()
        await self._launch_on_free_port(binary)
        host = ANYWHERE.get(self._host, self._host)
        tls = self._admission.link_to_self() if self._admission else None
        login = () if tls else (OWNER, self._password)
        self._publisher = Publisher(
            Endpoint(host, self._port, *login), f"{self._name}-{OWNER}", meter=self._meter, tls=tls
        )
        try:
            await self._publisher.start()
        except IoError:
            await self.stop()
            raise
        self._watching = asyncio.create_task(self._watch(binary), name="mosquitto watch")
        return self._host, self._port

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Queue a message for the child."""
        if self._publisher is not None:
            self._publisher.publish(topic, payload, retain=retain)

    async def pins_changed(self) -> None:
        """Start the child again with the certificates of now; all links are made anew."""
        if self._watching is not None:
            self._renewing = True
            await self._end_for_others()

    async def stop(self) -> None:
        """End the child; nothing is left running."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._publisher is not None:
            await self._publisher.stop()
        await self._end_process()

    def traffic(self) -> Traffic:
        """Wire bytes of our own connection to the child."""
        return self._meter.traffic()

    async def _launch_on_free_port(self, binary: str) -> None:
        if self._port:
            await self._launch(binary)
            return
        for left in reversed(range(PORT_ATTEMPTS)):
            self._port = _free_port(self._host)
            try:
                await self._launch(binary)
            except IoError:
                if not left:
                    raise
            else:
                return

    async def _launch(self, binary: str) -> None:
        """Start the child and wait until it says that it is running. Raises IoError."""
        user = _unprivileged_user()
        self._write_files(user)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), user),
            *(binary, "-c", "mosquitto.conf"),
            cwd=self._folder,  # relative names work whatever the folders above permit
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: we end the child ourselves
        )
        running = asyncio.Event()
        self._reading = asyncio.create_task(self._read_log(self._process, running))
        started = asyncio.create_task(running.wait())
        await asyncio.wait(
            {started, self._reading},
            timeout=START_WITHIN_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        started.cancel()
        if running.is_set():
            return
        await self._end_process()
        if "Address already in use" in self._said:
            raise IoError(
                f"{self._host}:{self._port}: port in use by another program; "
                "choose another port or stop it"
            )
        raise IoError(f"mosquitto on {self._host}:{self._port} did not start: {self._said}")

    async def _read_log(self, process: asyncio.subprocess.Process, running: asyncio.Event) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self._said = line.decode(errors="replace").strip()
            log.debug("mosquitto", says=self._said)
            if self._said.endswith("running"):
                running.set()

    async def _watch(self, binary: str) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            if self._renewing:
                log.info("mosquitto is started again for other pins")
            else:
                log.warning("mosquitto died and is started again", code=code, said=self._said)
            self._renewing = False
            window = wait_random_exponential(multiplier=BACKOFF_S[0], max=BACKOFF_S[1])
            passing = (IoError, OSError)  # OSError: no memory or no process left for a fork
            retrying = AsyncRetrying(wait=window, retry=retry_if_exception_type(passing))
            await retrying(self._launch, binary)
            if self._renewing:  # they changed while it was being started with those of before
                await self._end_for_others()

    async def _end_for_others(self) -> None:
        """End a child that has certificates of before; the watch starts it again."""
        process = self._process
        while process is not None and process.returncode is None:
            process.terminate()  # mosquitto loses one between saying that it runs and running
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), TERMINATE_AGAIN_S)

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reading is not None:
            await self._reading
        self._process = None

    def _write_files(self, user: str) -> None:
        """Write configuration, password and access rules where only the child's user reads them."""
        files = {"passwords": f"{OWNER}:{_password_hash(self._password)}\n"}
        access, owner = OPEN, OWNER
        if self._admission is not None:
            own = self._admission.identity
            certificates = self._admission.certificates()
            files = {
                "pinned.pem": "".join(pem_of(each).decode("ascii") for each in certificates),
                "key.pem": own.pem.read_text("ascii"),
            }
            access, owner = PINNED, common_name(own.id)
        files["acl"] = ACL.format(owner=owner)
        files["mosquitto.conf"] = CONFIG.format(
            port=self._port, host=self._host, access=access, connections=CONNECTIONS_MAX
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, text in files.items():
                path = self._folder / name
                path.touch(mode=0o600)
                path.write_text(text)
                if user:
                    shutil.chown(path, user)
            if user:
                shutil.chown(self._folder, user)
        except OSError as error:
            raise IoError(f"{self._folder}: cannot write mosquitto's files: {error}") from error


def find_mosquitto() -> str:
    """Path of the mosquitto program. Raises IoError with the remedy where there is none."""
    if sys.platform != "linux":
        raise IoError("broker: mosquitto is supervised on Linux only; use broker: embedded")
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path=SBIN)
    if binary is None:
        raise IoError(
            "broker: mosquitto is not installed; install it (Debian: apt install mosquitto) "
            "or use broker: embedded"
        )
    return binary


def _unprivileged_user() -> str:
    """The user that the child runs as; "" where we have no privileges to give up."""
    if os.geteuid() != 0:
        return ""
    known = {account.pw_name for account in pwd.getpwall()}
    return next(user for user in UNPRIVILEGED if user in known)


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise IoError(listen_failure(host, 0, error)) from error
        return int(probe.getsockname()[1])


def _password_hash(password: str) -> str:
    """A line of mosquitto's password file: PBKDF2 with SHA-512; the password is random anyway."""
    salt, rounds = secrets.token_bytes(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    encoded = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"$7${rounds}$" + "$".join(encoded)

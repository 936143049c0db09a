"""A connected socket to a broker: TCP and, where peers are pinned, TLS, all on the event loop.

aiomqtt's own connect blocks a thread for seconds where a host does not answer (with TLS for a whole
keepalive), and its reader allocates whatever size a broker announces. A socket from here is
connected and greeted already, refuses oversized reads, and is metered until it closes.
"""

import asyncio
import contextlib
import ipaddress
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tallynode.edge.meter import Meter
from tallynode.protocol.limits import MESSAGE_BYTES_MAX

CONNECT_WITHIN_S = 5.0  # seconds for TCP and TLS; a dead host must not hold its slot
PACKET_IN_MAX = MESSAGE_BYTES_MAX + 4096  # bytes; a hostile broker makes us hold 256 MB


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is, and what it wants to see."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None


class ConnectionFailed(OSError):
    """A broker that could not be reached or did not stay; the connection is tried again."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to greet a broker with TLS, and whom it must be."""

    context: ssl.SSLContext  # makes TlsSocket
    check: Callable[[bytes], None]  # of the certificate (DER); raises ConnectionFailed


class Socket(socket.socket):
    """A connected TCP socket that refuses oversized reads, and is metered until `release`.

    paho closes from whichever thread it is in, while a reader for the descriptor may still be on
    its way to the loop: so `close` only ends the connection, and the loop's thread frees the
    descriptor.
    """

    refusal = ""  # why the other side broke TLS off, in its words
    _meter: Meter | None = None
    _metered = 0
    _loop: asyncio.AbstractEventLoop | None = None  # None: not adopted yet
    ended: asyncio.Event

    def adopt(self) -> None:
        """Set up what is ours; `ssl` makes its sockets without calling a constructor."""
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.setblocking(False)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def measure(self, meter: Meter) -> None:
        """Count this connection from now on."""
        self._meter, self._metered = meter, meter.add(self)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; paho asks for the whole packet at once, so buflen is what was announced."""
        if buflen > PACKET_IN_MAX:
            raise ConnectionFailed(f"broker announced a packet of {buflen} bytes")
        return super().recv(buflen, flags)

    def pending(self) -> int:
        """1 where the connection was reset, else 0; aiomqtt reads on while this is not 0.

        After a reset uvloop calls a reader once and never again: what it leaves, and with it the
        news that the connection is dead, would wait for the next keepalive.
        """
        waiting = select.poll()
        waiting.register(self, select.POLLIN)
        return int(any(events & select.POLLERR for _, events in waiting.poll(0)))

    def close(self) -> None:
        """End the connection."""
        if self._meter is not None:
            self._meter.remove(self._metered)
        with contextlib.suppress(OSError):  # not connected any more
            self.shutdown(socket.SHUT_RDWR)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.ended.set)

    def release(self) -> None:
        """Free the descriptor; in the loop's thread only."""
        if self.fileno() >= 0:
            self.close()
            if self._loop is not None:
                self._loop.remove_reader(self.fileno())
                self._loop.remove_writer(self.fileno())
            super().close()


class TlsSocket(Socket, ssl.SSLSocket):
    """The same over TLS.

    aiomqtt greets in a thread while the loop may read already, and one TLS connection must not be
    in two threads at once: hence the lock, which nobody else ever waits for.
    """

    # Where a connection was reset before it is adopted, `ssl` itself reads from it and closes it.
    _lock = threading.Lock()

    def adopt(self) -> None:
        """Set up what is ours."""
        super().adopt()
        self._lock = threading.Lock()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive, in one thread at a time."""
        with self._lock:
            try:
                return super().recv(buflen, flags)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:  # paho reduces it to "connection lost"
                self.refusal = why(error)
                raise

    def send(self, data: Any, flags: int = 0) -> int:
        """Send, in one thread at a time."""
        with self._lock:
            return super().send(data, flags)

    def pending(self) -> int:
        """Bytes that TLS has read and nobody has taken, or 1 where the connection was reset."""
        with self._lock:
            return ssl.SSLSocket.pending(self) or Socket.pending(self)

    async def shake_hands(self) -> None:
        """The TLS handshake, on the loop."""
        loop = asyncio.get_running_loop()
        while True:
            ready = asyncio.Event()
            try:
                self.do_handshake()
                return
            except ssl.SSLWantReadError:
                loop.add_reader(self.fileno(), ready.set)
            except ssl.SSLWantWriteError:
                loop.add_writer(self.fileno(), ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(self.fileno())
                loop.remove_writer(self.fileno())


async def dial(endpoint: Endpoint, meter: Meter, tls: Tls | None) -> Socket:
    """A connected socket, greeted where there is TLS; every address of the host is tried."""
    where = f"{endpoint.host}:{endpoint.port}"
    failure = "no address"
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            for family, address in await _resolve(endpoint):
                try:
                    sock = await _connect(family, address, tls)
                except OSError as error:
                    failure = why(error)  # the error itself would hold what Python left open
                else:
                    sock.measure(meter)
                    return sock
    except TimeoutError:
        raise ConnectionFailed(f"{where}: no answer within {CONNECT_WITHIN_S:g} s") from None
    except socket.gaierror as error:
        raise ConnectionFailed(f"{where}: {error.strerror}") from None
    raise ConnectionFailed(f"{where}: {failure}")


def why(failure: OSError) -> str:
    """What went wrong, in words for a person."""
    if isinstance(failure, ssl.SSLError):
        return f"TLS: {failure.reason or 'broken off'}".replace("_", " ").lower()
    return os.strerror(failure.errno).lower() if failure.errno else str(failure)


async def _connect(family: int, address: Any, tls: Tls | None) -> Socket:
    """Connect to one address, and see that it is who it should be. Raises OSError."""
    sock = Socket(family, socket.SOCK_STREAM)
    sock.adopt()
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
        if tls is None:
            return sock
        secured = tls.context.wrap_socket(sock, do_handshake_on_connect=False)
        assert isinstance(secured, TlsSocket)
        sock = secured
        sock.adopt()
        await secured.shake_hands()
        tls.check(secured.getpeercert(True) or b"")
        return secured
    except BaseException:  # cancelled as well: nobody else knows the descriptor yet
        sock.release()
        raise


async def _resolve(endpoint: Endpoint) -> list[tuple[int, Any]]:
    """(family, address) pairs of a host; a numeric address needs no thread of the executor."""
    try:
        version = ipaddress.ip_address(endpoint.host).version
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return [(family, (endpoint.host, endpoint.port))]

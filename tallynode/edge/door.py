"""The outbox's listening socket: takes connections in and, with TLS, greets them within bounds.

asyncio's own server makes the handshake first and tells us of a connection afterwards, so that it
holds as many unfinished handshakes as strangers care to begin. Here each is rationed (throttle.py)
before a byte is read, ends in time, and is counted with its reason where it fails.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import structlog

from tallynode.edge.throttle import Throttle

HANDSHAKE_WITHIN_S = 5.0  # seconds; a TLS handshake that never ends holds its place (slow loris)
BACKLOG = 64  # connections the kernel queues for us
ACCEPT_AGAIN_S = 0.2  # seconds to wait when the process is out of file descriptors

Refuse = Callable[[str, str], None]

log = structlog.get_logger(__name__)


class Door:
    """Hands every connection that may come in to a new protocol."""

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        refuse: Refuse,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        """Prepare; `open` listens.

        Args:
            make_protocol: called for each connection that is let in.
            refuse: called with the client's address and the reason for each that is not.
            tls: the context for a new connection; None: no TLS.
        """
        self._make_protocol = make_protocol
        self._refuse = refuse
        self._tls = tls
        self._throttle = Throttle()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._greetings: set[asyncio.Task[None]] = set()

    def open(self, host: str, port: int) -> int:
        """Listen at an IP address; the port. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept(self._listener))
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Listen no more; who is in stays in."""
        tasks = {task for task in (self._accepting, *self._greetings) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:  # who waits is kept by the kernel meanwhile
                log.warning("cannot take connections in", why=error.strerror)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None and not self._throttle.enter(address[0], loop.time()):
                self._refuse(_where(address), "too many unfinished greetings")
                sock.close()
            else:
                greeting = asyncio.ensure_future(self._greet(sock, address))
                self._greetings.add(greeting)
                greeting.add_done_callback(self._greetings.discard)
            await asyncio.sleep(0)  # accepting does not yield by itself while somebody waits

    async def _greet(self, sock: socket.socket, address: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._tls is None:
                await loop.connect_accepted_socket(self._make_protocol, sock)
                return
            try:
                await loop.connect_accepted_socket(
                    self._make_protocol,
                    sock,
                    ssl=self._tls(),
                    ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
                )
            finally:
                self._throttle.leave(address[0])
        except ssl.SSLError as error:
            reason = (error.reason or "handshake broken off").replace("_", " ").lower()
            self._refuse(_where(address), f"TLS: {reason}")
        except OSError:
            self._refuse(_where(address), "TLS: handshake broken off")


def _where(address: Any) -> str:
    return f"{address[0]}:{address[1]}"

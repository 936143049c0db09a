"""Wire bytes, counted by the kernel (TCP_INFO) for every connection of this process.

The kernel counts what TCP moved: payload bytes with retransmissions, and segments both ways, so
acknowledgements are in. What TCP does not see is the frame around each segment; its size is known
(Ethernet, IP, TCP with its timestamps), so wire bytes = payload bytes + segments · frame overhead.
A connection's counters vanish with its socket: each is read a last time just before it closes, and
the closing handshake, which comes after that reading, is added as one segment each way.
"""

import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Protocol

# struct tcp_info of linux/tcp.h: 8 bytes of flags, 24 u32, then the counters below.
_OPTIONS_AT = 5
_COUNTERS_AT = 120
_COUNTERS = struct.Struct("=QQII")  # bytes_acked, bytes_received, segs_out, segs_in; Linux 4.2
_BYTES_SENT_AT = 200  # bytes_sent, retransmissions included; Linux 4.19
_TCP_INFO_SIZE = 256  # bytes asked for; the kernel returns what it knows
_TIMESTAMPS = 1  # TCPI_OPT_TIMESTAMPS

ETHERNET_HEADER = 14  # bytes
IP_HEADER = {socket.AF_INET: 20, socket.AF_INET6: 40}  # bytes
TCP_HEADER, TCP_TIMESTAMPS = 20, 12  # bytes

KERNEL = "tcp-info"
OWN_ENDS = "tcp-info (own ends)"  # a broker in another process: only our connections to it
NONE = "none"  # this system has no TCP_INFO that we can read


@dataclass(frozen=True, slots=True)
class Traffic:
    """Cumulative wire bytes of a set of connections, and who counted them."""

    sent: int
    received: int
    source: str

    def __add__(self, other: "Traffic") -> "Traffic":
        """The sum; the weaker source speaks for both."""
        rank = [KERNEL, OWN_ENDS, NONE]
        source = max(self.source, other.source, key=rank.index)
        return Traffic(self.sent + other.sent, self.received + other.received, source)


class Socket(Protocol):
    """What the meter needs of a socket; asyncio's and uvloop's transport sockets have it."""

    @property
    def family(self) -> int: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def read_socket(sock: Socket) -> tuple[int, int]:
    """Wire bytes (sent, received) of one TCP connection since it was made; (0, 0) if unknown."""
    if sys.platform != "linux":
        return 0, 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:  # already closed: what was read before stands
        return 0, 0
    if len(info) < _COUNTERS_AT + _COUNTERS.size:
        return 0, 0
    bytes_out, bytes_in, segments_out, segments_in = _COUNTERS.unpack_from(info, _COUNTERS_AT)
    if len(info) >= _BYTES_SENT_AT + 8:
        (bytes_out,) = struct.unpack_from("=Q", info, _BYTES_SENT_AT)
    overhead = frame_overhead(sock, timestamps=bool(info[_OPTIONS_AT] & _TIMESTAMPS))
    return bytes_out + segments_out * overhead, bytes_in + segments_in * overhead


def frame_overhead(sock: Socket, *, timestamps: bool = True) -> int:
    """Bytes around one segment's payload: Ethernet, IP and TCP headers."""
    ip = IP_HEADER.get(socket.AddressFamily(sock.family), IP_HEADER[socket.AF_INET6])
    return ETHERNET_HEADER + ip + TCP_HEADER + (TCP_TIMESTAMPS if timestamps else 0)


@dataclass(slots=True)
class Meter:
    """Sums the wire bytes of connections that come and go."""

    source: str = KERNEL
    _open: dict[int, tuple[Socket, tuple[int, int]]] = field(default_factory=dict)
    _closed: tuple[int, int] = (0, 0)
    _next: int = 0

    def add(self, sock: Socket) -> int:
        """Start counting a connected socket; the handle is for `remove`."""
        self._next += 1
        self._open[self._next] = (sock, (0, 0))
        return self._next

    def remove(self, handle: int) -> None:
        """Read a connection for the last time: call it just before the socket closes."""
        if handle not in self._open:
            return
        sent, received = self._read(handle)
        sock, _ = self._open.pop(handle)
        closing = frame_overhead(sock) if sent else 0
        self._closed = (self._closed[0] + sent + closing, self._closed[1] + received + closing)

    def traffic(self) -> Traffic:
        """Wire bytes of all connections so far, open and closed."""
        readings = [self._closed, *(self._read(handle) for handle in list(self._open))]
        source = self.source if sys.platform == "linux" else NONE
        return Traffic(sum(r[0] for r in readings), sum(r[1] for r in readings), source)

    def _read(self, handle: int) -> tuple[int, int]:
        sock, before = self._open[handle]
        now = read_socket(sock)
        latest = (max(before[0], now[0]), max(before[1], now[1]))
        self._open[handle] = (sock, latest)
        return latest

"""How many unfinished greetings strangers may have open, together and each.

A TLS handshake costs about 2 ms and 50 kB before we know who is there, so that is what has to be
rationed: some at a time in all, fewer from one address, and from one address only so many a second.
Whoever has been let in is no longer counted; a flood keeps newcomers of its own address out for
some seconds and nobody else.
"""

import ipaddress
from dataclasses import dataclass

OPEN_MAX = 64  # unfinished greetings; bounds what slow-loris can hold (about 50 kB each)
OPEN_PER_SOURCE_MAX = 16  # so that one address cannot hold all of them
RATE_PER_S = 20.0  # greetings a second from one address; bounds the CPU that a flood can burn
BURST = 60.0  # greetings at once after a quiet time; a whole rack may stand behind one address
SOURCES_MAX = 1024  # addresses remembered; bounds the table
_IPV6_HOME = 64  # bits; whoever has one IPv6 address has all that share them


@dataclass(slots=True)
class _Source:
    tokens: float
    at: float
    open: int = 0


class Throttle:
    """Counts greetings by the address that they come from."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}  # least recently seen first
        self._open = 0

    def enter(self, address: str, now: float) -> bool:
        """Begin a greeting; False where there are too many already, and nothing is counted."""
        key = _source_of(address)
        source = self._sources.pop(key, None) or _Source(BURST, now)
        self._sources[key] = source
        self._forget_one_too_many()
        source.tokens = min(BURST, source.tokens + RATE_PER_S * (now - source.at))
        source.at = now
        if source.tokens < 1 or source.open >= OPEN_PER_SOURCE_MAX or self._open >= OPEN_MAX:
            return False
        source.tokens -= 1
        source.open += 1
        self._open += 1
        return True

    def leave(self, address: str) -> None:
        """A greeting that was begun has ended, one way or the other."""
        self._sources[_source_of(address)].open -= 1
        self._open -= 1

    def _forget_one_too_many(self) -> None:
        # At most OPEN_MAX sources have an open greeting, so an idle one is soon found.
        if len(self._sources) > SOURCES_MAX:
            del self._sources[next(key for key, s in self._sources.items() if not s.open)]


def _source_of(address: str) -> str:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((ip, _IPV6_HOME), strict=False))
    return address

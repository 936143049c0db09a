"""What a peer cannot do just now: told once when it begins, once when it ends, and recorded."""

import structlog

log = structlog.get_logger(__name__)


class Health:
    """Troubles that a peer goes on in spite of, each by what it cannot do: `save`, …"""

    def __init__(self) -> None:
        self._troubles: dict[str, str] = {}

    @property
    def troubles(self) -> list[str]:
        """What cannot be done; nothing in good health."""
        return sorted(self._troubles)

    def failed(self, what: str, why: str) -> None:
        """It went wrong."""
        if what not in self._troubles:
            log.error(f"cannot {what}: going on without", why=why)
        self._troubles[what] = why

    def fine(self, what: str) -> None:
        """It went well."""
        if self._troubles.pop(what, None) is not None:
            log.warning(f"can {what} again")

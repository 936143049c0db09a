"""A disk that keeps what edge/storage.py promises, and no more.

A save writes a file beside the older generation, forces it, renames it over that generation and
forces the folder. A process killed in the middle leaves the kernel to finish; a power cut takes
what was not forced. Neither ever harms the newer generation, which is the point of having two.
"""

from dataclasses import dataclass, field
from enum import Enum


class Moment(Enum):
    """How far a save came."""

    WRITING = "writing"  # the file beside is torn; nobody reads it
    RENAMED = "renamed"  # the new generation stands, but the folder was not forced
    FORCED = "forced"  # the save is done


@dataclass(slots=True)
class Disk:
    """Two generations of one peer's state."""

    refuses: bool = False  # full, or read-only: saves fail and reads work
    lossy: bool = False  # whether it ever broke its promise
    damaged: int = 0  # generations that were found unreadable, until they are written over
    _generations: list[bytes] = field(default_factory=list)  # the newest last, at most two

    def save(self, state: bytes) -> bool:
        """Write a generation over the older one; False where the disk refuses."""
        if self.refuses:
            self.lossy = True
            return False
        self.damaged = 0
        self._generations = [*self._generations[-1:], state]
        return True

    def die_saving(self, state: bytes, moment: Moment, *, power: bool) -> None:
        """Crash at a moment of a save; a power cut undoes a rename that was not forced."""
        done = moment is Moment.FORCED or (moment is Moment.RENAMED and not power)
        if done:
            self.save(state)

    def load(self) -> bytes | None:
        """The newest generation."""
        return self._generations[-1] if self._generations else None

    def rot(self) -> bool:
        """Spoil the newest generation, so that the one before counts; False where there is none."""
        if len(self._generations) < 2:
            return False
        self.lossy = True
        self.damaged = 1
        del self._generations[-1]
        return True

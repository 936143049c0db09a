"""Made-up time: what is to happen, in the order of its time, then of its asking."""

import heapq
import itertools
from collections.abc import Callable

Happening = Callable[[], None]


class Clock:
    """The one clock of a world; it moves when the next thing happens."""

    def __init__(self) -> None:
        self.now = 0.0  # seconds
        self._heap: list[tuple[float, int, Happening]] = []
        self._order = itertools.count()

    def at(self, when: float, happen: Happening) -> None:
        """Let something happen at a time; what is due already happens next."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), happen))

    def until(self, when: float) -> bool:
        """Go on to the next happening that is not later than a time; False if there is none."""
        if self._heap and self._heap[0][0] <= when:
            return self.tick()
        self.now = max(self.now, when)
        return False

    def tick(self) -> bool:
        """Go on to the next happening; False when nothing is left."""
        if not self._heap:
            return False
        self.now, _, happen = heapq.heappop(self._heap)
        happen()
        return True

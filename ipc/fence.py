"""The fence: whether this pool may act, as its keeper has last heard from Redis.

The instance lease makes the pool the only owner of its consumer names, and keeps the leader of the group
from handing its entries to others. It is trusted until two thirds of its time have passed, counted
from before the request was sent; the server lets it go a third later. What is started within a term
may be finished and acknowledged plainly within it; once the term has changed, others may have been given
the entry, and whatever is still said about it has to check the owner.
"""

from __future__ import annotations

import sys
import time

from .cells import K, Keep

TRUSTED = 2 / 3

if sys.platform == "linux":

    def boot_time() -> float:
        """Return seconds that go on while the machine sleeps: a lease does not wait for it."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def boot_time() -> float:
        """Return seconds that go on while the machine sleeps: a lease does not wait for it."""
        return time.monotonic()


class Fence:
    """The pool's right to act, read by its workers and its master."""

    def __init__(self, keep: Keep) -> None:
        """Look at the keeper's cells."""
        self._view, self._real = keep.view, keep.real

    @property
    def term(self) -> int:
        """Return the number of the lease's term; another one than before: others may have acted."""
        return self._view[K.TERM]

    @property
    def left_s(self) -> float:
        """Return for how many seconds the lease may still be trusted; not positive when it may not."""
        return self._real[K.UNTIL] - boot_time()

    @property
    def holds(self) -> bool:
        """Tell whether the lease may be trusted now."""
        return self.left_s > 0

    @property
    def paused(self) -> bool:
        """Tell whether somebody has paused the group."""
        return bool(self._view[K.PAUSED])

    @property
    def is_open(self) -> bool:
        """Tell whether entries may be started now."""
        return self.left_s > 0 and not self._view[K.PAUSED]  # in this order: trust begins behind a pause

    def unchanged(self, term: int) -> bool:
        """Tell whether nobody can have acted on our entries since a term was read, and now."""
        return self.holds and self._view[K.TERM] == term

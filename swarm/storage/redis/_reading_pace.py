"""The rest of a process between two readings of the log. Pure.

Many processes on few cores cannot each read each commit on its own. Commits come sooner
to the processes that wait for them if the others read many at a time.
"""

import math
from typing import Final

_MOMENT: Final = 0.001
LONGEST: Final = 0.008
"""Seconds of a rest, at most, of a process in which something waits."""

LISTENING: Final = 64
"""After so many readings with few commits of its own, a process only listens."""

_OWN: Final = 2
"""Number of such readings that a commit of the process itself makes up for."""

_SLOWLY: Final = 32
"""Number of such readings after which the rest is a millisecond longer."""

IDLE: Final = 0.05
"""Seconds of a rest, at most, of a process in which nothing waits."""

_SHORT: Final = 0.002
"""Seconds of a rest, at most, while commits are read in time."""

_LATE: Final = 0.002
"""Seconds after which a commit, but for the rest, is read late: the machine has more
to do than it can, and fewer readings bring all of it sooner."""


class ReadingPace:
    """Counts what the readings of one process have brought."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._alone = 0
        self._silent = 0.0
        self._idle = 0.0
        self._news = 0
        self._sent = 0
        self._rest = 0.0
        self._rested = 0.0

    def rest(
        self,
        *,
        is_empty: bool,
        news: int,
        sent: int,
        lag: float,
        longest: float | None = None,
    ) -> float:
        """Return the seconds to rest after a reading.

        Args:
            is_empty: Whether the log had nothing for as long as the server waits.
            news: How many commits of other processes have ever come here.
            sent: How many commits this process has ever sent.
            lag: Seconds since the first of the commits was made.
            longest: The longest rest that what waits here allows, or None; see
                `ports.Tail.keep_up`.
        """
        is_late = lag > self._rested + _LATE
        has_news, self._news = news != self._news, news
        own, self._sent = sent - self._sent, sent
        self._alone = 0 if has_news or is_empty else self._alone + 1
        if longest is None:
            self._rested = self._shared_rest(own, is_empty=is_empty, is_late=is_late)
        else:
            idle = self._idle_rest(own, is_empty=is_empty)
            self._rested = idle if longest == math.inf else min(longest, IDLE)
        return self._rested

    def _shared_rest(self, own: int, *, is_empty: bool, is_late: bool) -> float:
        """Return the rest of a process in which something waits."""
        if self._alone:
            return min((self._alone - 1) * _MOMENT, LONGEST)
        if is_empty:
            self._silent = 0.0
        elif own:
            busy = min(self._silent, LISTENING + _SLOWLY * LONGEST / _MOMENT)
            self._silent = max(0.0, busy - _OWN * own)
        else:
            most = LONGEST if is_late else max(_SHORT, self._rest - _MOMENT / _SLOWLY)
            longest = LISTENING + _SLOWLY * most / _MOMENT
            self._silent = min(self._silent + 1, longest)
        self._rest = max(0.0, self._silent - LISTENING) / _SLOWLY * _MOMENT
        return self._rest

    def _idle_rest(self, own: int, *, is_empty: bool) -> float:
        """Return the rest of a process in which nothing waits.

        One that has just committed may go on to act, so it rests shortly at first.
        """
        if own and not self._alone:
            self._idle = _MOMENT
        elif is_empty:
            self._idle = 0.0
        else:
            self._idle = min(IDLE, 2 * self._idle or _MOMENT)
        return self._idle

"""The rest of a process between two readings of the log. Pure.

Many processes on few cores cannot each read each commit on its own. Three kinds of
readings can wait: of commits that this process has made itself, of a busy log in which
this process hardly ever does something, and of one in which others act first.
"""

from typing import Final

_MOMENT: Final = 0.001
LONGEST: Final = 0.008
"""Seconds of a rest, at most."""

LISTENING: Final = 64
"""After so many readings with few commits of its own, a process only listens."""

_OWN: Final = 2
"""Number of such readings that a commit of the process itself makes up for."""

_SLOWLY: Final = 32
"""Number of such readings after which the rest is a millisecond longer."""

IDLE: Final = 0.05
"""Seconds of a rest, at most, of a process that reads late and that nothing watches."""

_IDLY: Final = 16
"""Factor by which the rest of such a process grows faster."""

FAR: Final = 0.02
"""Seconds of a rest, at most, while others act first."""

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
        turns: int = 0,
        is_watched: bool = True,
    ) -> float:
        """Return the seconds to rest after a reading.

        Args:
            is_empty: Whether the log had nothing for as long as the server waits.
            news: How many commits of other processes have ever come here.
            sent: How many commits this process has ever sent.
            lag: Seconds since the first of the commits was made.
            turns: How many others act before this process does; 0: not known.
            is_watched: Whether readers of the log or subscriptions are here.
        """
        is_late = lag > self._rested + _LATE
        has_news, self._news = news != self._news, news
        own, self._sent = sent - self._sent, sent
        self._alone = 0 if has_news or is_empty else self._alone + 1
        if is_empty:
            self._silent = 0.0
        elif own:
            busy = min(self._silent, LISTENING + _SLOWLY * LONGEST / _MOMENT)
            self._silent = max(0.0, busy - _OWN * own)
        else:
            most = LONGEST if is_late else max(_SHORT, self._rest - _MOMENT / _SLOWLY)
            step = 1
            if is_late and not is_watched and self._rest >= LONGEST:
                most, step = IDLE, _IDLY
            longest = LISTENING + _SLOWLY * most / _MOMENT
            self._silent = min(self._silent + step, longest)
        if self._alone:
            self._rest = min((self._alone - 1) * _MOMENT, LONGEST)
        else:
            self._rest = max(0.0, self._silent - LISTENING) / _SLOWLY * _MOMENT
        self._rested = self._rest
        if turns and not is_watched:
            self._rested = max(self._rest, min(turns * _MOMENT, FAR))
        return self._rested

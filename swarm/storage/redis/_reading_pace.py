"""How long a process rests between two readings of the log. Pure.

Many processes on few cores cannot each read each commit on its own. Two kinds of
readings can wait: of commits that this process has made itself, and of a busy log in
which this process hardly ever does something.
"""

from typing import Final

_MOMENT: Final = 0.001
LONGEST: Final = 0.008
"""Seconds of a rest, at most."""

LISTENING: Final = 64
"""After so many readings with few commits of its own, a process only listens."""

_OWN: Final = 2
"""How many such readings a commit of its own makes up for."""

_SLOWLY: Final = 32
"""How many more of them until a rest is a millisecond longer."""


class ReadingPace:
    """Counts what the readings of one process have brought."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._alone = 0
        self._silent = 0.0
        self._news = 0
        self._sent = 0

    def rest(self, *, is_empty: bool, news: int, sent: int) -> float:
        """Return the seconds to rest after a reading.

        Args:
            is_empty: Whether the log had nothing for as long as the server waits.
            news: How many commits of other processes have ever come here.
            sent: How many commits this process has ever sent.
        """
        has_news, self._news = news != self._news, news
        own, self._sent = sent - self._sent, sent
        self._alone = 0 if has_news or is_empty else self._alone + 1
        if is_empty:
            self._silent = 0.0
        elif own:
            self._silent = max(0.0, self._silent - _OWN * own)
        else:
            longest = LISTENING + _SLOWLY * LONGEST / _MOMENT
            self._silent = min(self._silent + 1, longest)
        if self._alone:
            return min((self._alone - 1) * _MOMENT, LONGEST)
        return max(0.0, self._silent - LISTENING) / _SLOWLY * _MOMENT

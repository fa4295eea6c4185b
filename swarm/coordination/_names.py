"""The names of semaphores and barriers, and the number each was opened with."""

from typing import Final

from swarm.errors import ConfigMismatch
from swarm.model import Path, check_text

_KEPT: Final = 10_000


class Names:
    """Remembers what each name was opened with (G14): the newest 10,000 of them.

    What is forgotten and in use is still known from its document.
    """

    __slots__ = ("_folder", "_known", "_unit", "_word")

    def __init__(self, folder: str, word: str, unit: str) -> None:
        """Remember names of documents in `folder`."""
        self._folder = Path.of(folder)
        self._word = word
        self._unit = unit
        self._known: dict[str, tuple[Path, int]] = {}

    def declare(self, name: str, number: int | None) -> tuple[Path, int]:
        """Return where the document of a name stands, and its number.

        Raises:
            ConfigMismatch: It was opened with another number.
            ValueError: The number is none, or missing at the first opening.
            InvalidPath: The name is empty or too long.
            TypeError: The name is no text.
        """
        check_text(f"the name of a {self._word}", name)
        known = self._known.get(name)
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{self._unit} is an integer from 1, not {number!r}")
        if known is not None:
            if number is not None and known[1] != number:
                raise ConfigMismatch(
                    f"{self._word} {name!r} was opened with {self._unit}={known[1]}, "
                    f"now with {self._unit}={number}"
                )
            return known
        if number is None:
            raise ValueError(
                f"{self._word} {name!r} is not open; say {self._unit}=... at first"
            )
        known = (self._folder.child(name), number)
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[name] = known
        return known

    def forget(self, name: str) -> None:
        """Forget a name that could not be opened."""
        self._known.pop(name, None)

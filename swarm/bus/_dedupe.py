"""The publish keys of late, bounded by count and age. Pure (E8)."""

from collections import OrderedDict


class DedupeWindow:
    """Remembers which key was published under which revision."""

    def __init__(self, count: int, seconds: float) -> None:
        """Remember at most `count` keys, each for `seconds`."""
        self._count = count
        self._age = int(seconds * 1_000_000)
        self._keys: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: str, now: int) -> int | None:
        """Return the revision the key was published under, if that is remembered."""
        self._expire(now)
        known = self._keys.get(key)
        return None if known is None else known[0]

    def add(self, key: str, revision: int, at: int) -> None:
        """Remember a key; the oldest goes when there are too many."""
        self._keys.pop(key, None)
        self._keys[key] = (revision, at)
        if len(self._keys) > self._count:
            self._keys.popitem(last=False)
        self._expire(at)

    def _expire(self, now: int) -> None:
        while self._keys:
            key, (_, at) = next(iter(self._keys.items()))
            if now - at < self._age:
                return
            del self._keys[key]

"""Paths and patterns: how places in the tree are written down.

Dots separate segments; brackets quote a name or index an array:
`global.config`, `locks["agents.pulse.s1"].holders[0]`. In a pattern a bare `*`
stands for one segment and a bare `**` for any number of them, none included.
Formatting is canonical, so equal paths have equal texts and a text can be a key.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias, TypeGuard

import orjson

from swarm.errors import InvalidPath, LimitExceeded
from swarm.model._checks import shown

MAX_PATH_BYTES: Final = 512
MAX_PATTERN_CHARS: Final = 256
MAX_INDEX: Final = 2**63 - 1

Segment: TypeAlias = str | int
"""A name, or the index of an array inside a document."""


class Path:
    """A place in the tree: names, and indexes inside a document. Immutable.

    Build one with `Path.parse` from text or `Path.of` from names; `str()` gives the
    canonical text back, and parsing that gives an equal path.
    """

    __slots__ = ("_hash", "segments", "text")

    segments: tuple[Segment, ...]
    text: str

    def __init__(self, segments: tuple[Segment, ...], text: str) -> None:
        """Use `Path.parse` or `Path.of`."""
        self.segments = segments
        self.text = text
        self._hash = hash(text)

    @classmethod
    def of(cls, *segments: Segment) -> "Path":
        """Return the path of these segments; they may hold any character.

        Raises:
            InvalidPath: A segment is empty, negative, not text, or not Unicode.
            LimitExceeded: The text would be longer than 512 bytes.
        """
        return _checked(segments)

    @staticmethod
    def parse(text: str) -> "Path":
        """Return the path that `text` spells.

        Raises:
            InvalidPath: The text is not a path; says where it stops being one.
            LimitExceeded: The text is longer than 512 bytes.
        """
        if type(text) is not str:
            raise InvalidPath(f"a path is text, not {shown(text)}")
        return _parse_path(text)

    @property
    def parent(self) -> "Path":
        """The path without its last segment."""
        return _joined(self.segments[:-1])

    @property
    def name(self) -> Segment:
        """The last segment."""
        return self.segments[-1]

    def child(self, *segments: Segment) -> "Path":
        """Return the path of a place below this one."""
        return _checked((*self.segments, *segments))

    def __truediv__(self, other: "Path") -> "Path":
        return _checked((*self.segments, *other.segments))

    def within(self, folder: "Path") -> bool:
        """Return whether this path is `folder` or lies below it."""
        n = len(folder.segments)
        return self.segments[:n] == folder.segments

    def relative_to(self, folder: "Path") -> "Path":
        """Return the rest of this path below `folder`, which must contain it."""
        return _joined(self.segments[len(folder.segments) :])

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Path({self.text!r})"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Path) and self.text == other.text

    def __lt__(self, other: "Path") -> bool:
        return sort_key(self) < sort_key(other)


ROOT: Final = Path((), "")
"""The folder of everything. It has no text of its own."""


class Wild:
    """A wildcard of a pattern: `*` or `**`."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        """Stand for `text`."""
        self.text: str = text

    def __repr__(self) -> str:
        return self.text


ONE: Final = Wild("*")
ANY_NUMBER: Final = Wild("**")

PatternSegment: TypeAlias = str | int | Wild


class Pattern:
    """Which places are meant: a path in which `*` and `**` may stand. Immutable."""

    __slots__ = ("_is_open", "fixed", "is_literal", "segments", "text")

    segments: tuple[PatternSegment, ...]
    text: str

    def __init__(self, segments: tuple[PatternSegment, ...], text: str) -> None:
        """Use `Pattern.parse`."""
        self.segments = segments
        self.text = text
        plain: list[Segment] = []
        for segment in segments:
            if isinstance(segment, Wild):
                break
            plain.append(segment)
        self.fixed: Path = _joined(tuple(plain))
        """The leading part without wildcards: everything that matches is below it."""
        self.is_literal: bool = len(plain) == len(segments)
        self._is_open = ANY_NUMBER in segments

    @staticmethod
    def parse(text: str) -> "Pattern":
        """Return the pattern that `text` spells.

        Raises:
            InvalidPath: The text is not a pattern; says where it stops being one.
            LimitExceeded: The text is longer than 256 characters.
        """
        if type(text) is not str:
            raise InvalidPath(f"a pattern is text, not {shown(text)}")
        return _parse_pattern(text)

    @classmethod
    def of(cls, *segments: PatternSegment) -> "Pattern":
        """Return the pattern of these segments, which have been checked before."""
        return cls(segments, format_segments(segments))

    def below(self, folder: Path) -> "Pattern":
        """Return this pattern as seen from above `folder`."""
        return Pattern.of(*folder.segments, *self.segments)

    def matches(self, path: Path) -> bool:
        """Return whether the whole path is one of those meant."""
        return match(self.segments, path.segments)

    def covers(self, path: Path) -> bool:
        """Return whether the path, or a place above it, is one of those meant."""
        wanted, segments = self.segments, path.segments
        if not self._is_open:  # then only a place of its own length can match
            return match(wanted, segments[: len(wanted)])
        return any(match(wanted, segments[:n]) for n in range(1, len(segments) + 1))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text


def match(pattern: Sequence[PatternSegment], path: Sequence[Segment]) -> bool:
    """Return whether `pattern` matches all of `path`.

    Goes back only to the last `**`, so the work is bounded by the product of the
    two lengths, whatever the pattern (the classic wildcard algorithm).
    """
    p = s = 0
    star = mark = -1
    while s < len(path):
        if p < len(pattern) and pattern[p] is ANY_NUMBER:
            star, mark = p, s
            p += 1
        elif p < len(pattern) and (pattern[p] is ONE or _same(pattern[p], path[s])):
            p += 1
            s += 1
        elif star >= 0:
            mark += 1
            p, s = star + 1, mark
        else:
            return False
    return all(segment is ANY_NUMBER for segment in pattern[p:])


def _same(wanted: PatternSegment, segment: Segment) -> bool:
    return wanted == segment and type(wanted) is type(segment)


def format_segments(segments: Sequence[PatternSegment]) -> str:
    """Return the canonical text of these segments."""
    parts: list[str] = []
    for segment in segments:
        if isinstance(segment, int):
            parts.append(f"[{segment}]")
        elif isinstance(segment, Wild):
            parts.append(f".{segment.text}" if parts else segment.text)
        elif _is_bare(segment):
            parts.append(f".{segment}" if parts else segment)
        else:
            parts.append(f"[{orjson.dumps(segment).decode()}]")
    return "".join(parts)


def sort_key(path: Path) -> tuple[tuple[bool, Segment], ...]:
    """Return what paths are sorted by: segment by segment, names before indexes."""
    return tuple((isinstance(s, int), s) for s in path.segments)


_SPECIAL: Final = frozenset(".[]\"'*")
_NOT_PLAIN: Final = frozenset("[]\"'* ")
_PLAIN_CHARS: Final = MAX_PATH_BYTES // 4  # none takes more than four bytes


def _is_bare(name: str) -> bool:
    return name.isprintable() and " " not in name and _SPECIAL.isdisjoint(name)


def _joined(segments: tuple[Segment, ...]) -> Path:
    return Path(segments, format_segments(segments))


def _checked(segments: Sequence[object]) -> Path:
    good: list[Segment] = []
    for segment in segments:
        if not _is_segment(segment):
            raise InvalidPath(
                "a path segment is a non-empty name or an index from 0 to 2^63-1, "
                f"not {_shown(segment)}"
            )
        good.append(segment)
    try:
        path = _joined(tuple(good))
        length = len(path.text.encode())
    except (UnicodeEncodeError, TypeError):
        raise InvalidPath("a path must be valid Unicode (no lone surrogates)") from None
    if length > MAX_PATH_BYTES:
        raise LimitExceeded(
            f"a path is at most {MAX_PATH_BYTES} bytes long; this one has {length}"
        )
    return path


def _shown(segment: object) -> str:
    if type(segment) is int and segment > MAX_INDEX:
        return "a larger one"  # Python may refuse to write it out
    return repr(segment)


def _is_segment(segment: object) -> TypeGuard[Segment]:
    if type(segment) is str:
        return bool(segment)
    return type(segment) is int and 0 <= segment <= MAX_INDEX


@lru_cache(maxsize=65_536)
def _parse_path(text: str) -> Path:
    if text.isprintable() and _NOT_PLAIN.isdisjoint(text) and len(text) <= _PLAIN_CHARS:
        names = tuple(text.split("."))
        if all(names):  # fast path: no segment is quoted, an index or empty
            return Path(names, text)
    segments = tuple(_scan(text))
    for segment in segments:
        if isinstance(segment, Wild):
            raise InvalidPath(
                f"{text!r} is a pattern: {segment.text} stands for many places; "
                f'quote it as ["{segment.text}"] if that is its name'
            )
    return _checked(segments)


def parse_paths(texts: Sequence[str]) -> list[Path]:
    """Return what `Path.parse` returns for each text; many at a third of the cost.

    Raises:
        InvalidPath: A text is not a path.
        LimitExceeded: A text is longer than 512 bytes.
    """
    if not _are_plain(texts):
        return [Path.parse(text) for text in texts]
    found: list[Path] = []
    folder: str | None = None
    names: tuple[Segment, ...] = ()
    for text in texts:
        above, _, name = text.rpartition(".")
        if above != folder:  # paths of one folder share the objects of its names
            folder, names = above, tuple(above.split(".")) if above else ()
        found.append(Path((*names, name), text))
    return found


def _are_plain(texts: Sequence[str]) -> bool:
    """Return whether no text has a segment that is quoted, an index or empty."""
    together = "." + ".".join(texts) + "."
    return (
        together.isprintable()
        and ".." not in together
        and not any(char in together for char in _NOT_PLAIN)
        and max(map(len, texts)) <= _PLAIN_CHARS
    )


@lru_cache(maxsize=4_096)
def _parse_pattern(text: str) -> Pattern:
    if len(text) > MAX_PATTERN_CHARS:
        raise LimitExceeded(
            f"a pattern is at most {MAX_PATTERN_CHARS} characters long; "
            f"this one has {len(text)}"
        )
    segments = tuple(_scan(text))
    return Pattern(segments, format_segments(segments))


def _scan(text: str) -> Iterator[PatternSegment]:
    """Yield the segments of `text`; every error says where it is."""
    if not text:
        raise InvalidPath("a path has at least one segment; this text is empty")
    at = 0
    segment: PatternSegment
    while at < len(text):
        if text[at] == "[":
            segment, at = _scan_bracket(text, at)
        else:
            if at and text[at] != ".":
                raise _bad(text, at, "expected '.' or '['")
            segment, at = _scan_bare(text, at + 1 if at else at)
        yield segment


def _scan_bare(text: str, start: int) -> tuple[PatternSegment, int]:
    end = start
    while end < len(text) and text[end] not in ".[":
        end += 1
    name = text[start:end]
    if not name:
        raise _bad(text, start, "a segment is empty")
    if name == "*":
        return ONE, end
    if name == "**":
        return ANY_NUMBER, end
    if not _is_bare(name):
        raise _bad(text, start, f"quote this segment as [{_quoted(name)}]")
    return name, end


def _scan_bracket(text: str, start: int) -> tuple[Segment, int]:
    if text[start + 1 : start + 2] == '"':
        end = start + 2
        while end < len(text) and text[end] != '"':
            end += 2 if text[end] == "\\" else 1
        if text[end : end + 2] != '"]':
            raise _bad(text, start, 'the quoted segment does not end in "]')
        try:
            name = orjson.loads(text[start + 1 : end + 1])
        except orjson.JSONDecodeError as error:
            raise _bad(text, start, f"not a JSON string: {error}") from None
        if not name:
            raise _bad(text, start, "a segment is empty")
        return name, end + 2
    end = text.find("]", start)
    digits = text[start + 1 : end] if end > 0 else ""
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 20
    if not is_number or str(int(digits)) != digits or int(digits) > MAX_INDEX:
        raise _bad(text, start, "brackets hold an index or a name in double quotes")
    return int(digits), end + 1


def _quoted(name: str) -> str:
    try:
        return orjson.dumps(name).decode()
    except TypeError:
        return ascii(name)


def _bad(text: str, at: int, why: str) -> InvalidPath:
    return InvalidPath(f"{text!r} is not a path: at character {at}, {why}")

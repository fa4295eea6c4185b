"""Checks of arguments, with one clear error each. Pure."""

import reprlib
from typing import Final

from swarm.errors import InvalidValue, LimitExceeded

_FIRST: Final = 3
"""Maximum number of errors of a group that are told."""

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 4
_SHOWN.maxstring = _SHOWN.maxother = 80
_BRIEF: Final = 60  # characters


def shown(value: object) -> str:
    """Return a value as an error message shows it: short, however large or deep."""
    return _SHOWN.repr(value)


def brief(value: object) -> str:
    """Return the beginning of `repr(value)`, for the repr of what holds the value."""
    text = repr_of(value)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"


def repr_of(value: object) -> str:
    """Return `repr(value)`, or the name of its class if that cannot be made."""
    try:
        return valid_text(repr(value))
    except Exception:  # noqa: BLE001  # the value may nest too deep
        return f"<{type(value).__name__} that cannot be shown>"


def told(error: BaseException) -> str:
    """Return an error in words, also one whose own text cannot be made.

    A group is told with its first errors.
    """
    name = type(error).__name__
    try:
        text = valid_text(str(error))
        if isinstance(error, BaseExceptionGroup):
            text += f": {'; '.join(map(told, error.exceptions[:_FIRST]))}"
    except Exception:  # noqa: BLE001  # it may refer to a value that nests too deep
        return f"{name}, whose text cannot be shown"
    return f"{name}: {text}" if text else name


def valid_text(text: str) -> str:
    """Return a text as JSON can hold it: lone surrogates are escaped.

    Errors about file names hold them (PEP 383).
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of `choices`.

    Raises:
        ValueError: The word is not one of them.
    """
    if value not in choices:
        raise ValueError(f"{what} is one of {', '.join(choices)}, not {shown(value)}")


def check_whole(what: str, value: object, least: int) -> None:
    """Refuse a value that is not a whole number from `least` on.

    Raises:
        TypeError: The value is not a whole number.
        ValueError: The number is less.
    """
    if type(value) is not int:
        raise TypeError(f"{what} is a whole number, not {shown(value)}")
    if value < least:
        raise ValueError(f"{what} is {least} or more, not {value}")


LONGEST_SECONDS: Final = 10**10
"""The longest time that an argument may mean: about 317 years.

Kernel time, in microseconds since 1970, then fits into a date and into 64 bits.
"""


def check_seconds(what: str, value: object) -> None:
    """Refuse a value that is not a number of seconds from a microsecond on.

    Raises:
        TypeError: The value is not a number.
        ValueError: The number is below a microsecond, or above `LONGEST_SECONDS`.
    """
    if not 1e-6 <= as_seconds(what, value) <= LONGEST_SECONDS:
        raise ValueError(f"{what} is from 0.000001 to 1e+10 seconds, not {value}")


def as_seconds(what: str, value: object) -> float:
    """Return the value, which must be a number of seconds.

    Raises:
        TypeError: The value is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number of seconds, not {shown(value)}")
    return value


def check_timeout(value: object) -> None:
    """Refuse a time-out that is no time from 0 seconds on; None is no time-out.

    Raises:
        TypeError: The value is neither a number nor None.
        ValueError: The number is negative or NaN.
    """
    if value is not None and not as_seconds("a time-out", value) >= 0:
        raise ValueError(f"a time-out is 0 seconds or more, not {value!r}")


LONGEST_TEXT: Final = 65_536
"""Maximum number of characters of a name, reason or message."""


def check_text(what: str, value: object) -> None:
    """Refuse a value that is not text that a document can hold.

    Raises:
        TypeError: The value is not text.
        InvalidValue: The text is not valid Unicode: no JSON can hold it.
        LimitExceeded: The text is longer than `LONGEST_TEXT`.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not {shown(value)}")
    if len(value) > LONGEST_TEXT:
        raise LimitExceeded(
            f"{what} has at most {LONGEST_TEXT:,} characters, not {len(value):,}"
        )
    if valid_text(value) != value:
        raise InvalidValue(
            f"{what} is not valid Unicode (a lone surrogate): {shown(value)}"
        )


def check_name(what: str, value: object) -> None:
    """Refuse a value that is not text, or is empty.

    Raises:
        TypeError: The value is not text.
        ValueError: The value is empty.
    """
    check_text(what, value)
    if not value:
        raise ValueError(f"{what} is not empty")


def refuse_text(what: str, values: object) -> None:
    """Refuse one text where many are meant: its characters would be taken for them.

    Raises:
        TypeError: The values are one text.
    """
    if isinstance(values, str):
        raise TypeError(f"{what} takes a list of paths, not one text: {shown(values)}")

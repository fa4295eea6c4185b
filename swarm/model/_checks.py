"""Refusing what cannot be meant, with one clear error each. Pure."""

import math


def check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of `choices`.

    Raises:
        ValueError: It is none.
    """
    if value not in choices:
        raise ValueError(f"{what} is one of {', '.join(choices)}, not {value!r}")


def check_whole(what: str, value: object, least: int) -> None:
    """Refuse what is no whole number from `least` on.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less.
    """
    if type(value) is not int:
        raise TypeError(f"{what} is a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{what} is {least} or more, not {value}")


def check_seconds(what: str, value: object) -> None:
    """Refuse what is no finite number of seconds above 0.

    Raises:
        TypeError: It is no number.
        ValueError: It is no such number.
    """
    if not 0 < as_seconds(what, value) < math.inf:
        raise ValueError(f"{what} is finite and above 0 seconds, not {value}")


def as_seconds(what: str, value: object) -> float:
    """Return a number of seconds, whichever.

    Raises:
        TypeError: It is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number of seconds, not {value!r}")
    return value


def check_text(what: str, value: object) -> None:
    """Refuse what is no text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not {value!r}")

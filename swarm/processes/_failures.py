"""Exceptions as data, and back as the class that both sides know. Pure.

No code runs to make an exception again: its class must be loaded here already, and its
constructor is not called.
"""

import sys
import traceback
from typing import Any, Final

import orjson

from swarm.errors import RemoteError

_TRACE: Final = 4_000
"""Number of characters of the traceback that are sent, from its end."""

_LARGEST: Final = 16_000
"""Maximum size of an exception: characters of its text, bytes of its arguments and
fields together. A larger one comes back as `RemoteError`."""

_NOTES: Final = 20
"""Maximum number of notes that are sent, and of hundreds of characters of each."""

_DEPTH: Final = 32
"""Maximum depth of the arguments and fields of an exception that is sent."""

_PLAIN: Final = (type(None), str, int, float, bool)


def failure_to_json(error: BaseException) -> dict[str, Any]:
    """Return an exception as a JSON value."""
    cls = type(error)
    trace = "".join(traceback.format_exception(error))
    fields = {
        name: value
        for name, value in vars(error).items()
        if name != "__notes__" and _is_json(name) and _is_json(value)
    }
    args = list(error.args) if _is_json(list(error.args)) else None
    if args is not None and len(orjson.dumps([args, fields])) > _LARGEST:
        args, fields = None, {}
    notes = [str(note)[: 100 * _NOTES] for note in getattr(error, "__notes__", ())]
    return {
        "module": cls.__module__,
        "name": cls.__qualname__,
        "args": args,
        "fields": {} if args is None else fields,
        "text": _clean(_text(error)[:_LARGEST]),
        "notes": [_clean(note) for note in notes[:_NOTES]],
        "trace": _clean(trace[-_TRACE:]),
    }


def failure_from_json(told: dict[str, Any], where: str) -> Exception:
    """Return the exception; `where` is the process in which it was raised."""
    error = _same_class(told)
    if error is None:
        error = RemoteError(
            f"{told['name']}: {told['text']}", type=f"{told['module']}.{told['name']}"
        )
    for note in told["notes"]:
        error.add_note(note)
    error.add_note(f"in process {where}, where the traceback was:\n{told['trace']}")
    return error


def _same_class(told: dict[str, Any]) -> Exception | None:
    cls: Any = sys.modules.get(told["module"])
    for part in told["name"].split("."):
        cls = getattr(cls, part, None)
    if not isinstance(cls, type) or not issubclass(cls, Exception):
        return None
    if told["args"] is None or issubclass(cls, ExceptionGroup):
        return None
    try:
        error = cls.__new__(cls, *told["args"])
        error.args = tuple(told["args"])
        vars(error).update(told["fields"])
        is_same = _text(error) == told["text"]
    except Exception:  # noqa: BLE001  # the class may do anything
        return None
    return error if is_same else None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as raised:  # noqa: BLE001  # the class may do anything
        return f"<{raised!r} in __str__>"


def _clean(text: str) -> str:
    """Return a text that JSON can hold: what is no Unicode is written as an escape."""
    return text.encode(errors="backslashreplace").decode()


def _is_json(value: object, depth: int = _DEPTH) -> bool:
    if isinstance(value, _PLAIN):
        return type(value) in _PLAIN and not _is_odd(value)
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(
            type(k) is str and not _is_odd(k) and _is_json(v, depth - 1)
            for k, v in value.items()
        )
    if not isinstance(value, (list, tuple)) or type(value) not in (list, tuple):
        return False
    return all(_is_json(each, depth - 1) for each in value)


def _is_odd(value: object) -> bool:
    """Return whether a plain value does not survive JSON."""
    if type(value) is float:
        return value - value != 0.0
    if type(value) is int:
        return not -(2**63) <= value < 2**64
    return isinstance(value, str) and not value.isprintable() and not _is_utf8(value)


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

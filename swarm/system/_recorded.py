"""Values of a recorded run: arguments and results as JSON that says their classes.

Nothing that is read is evaluated: a class is named, and its fields are listed.
"""

import dataclasses
import datetime
import enum
import math
import sys
from pathlib import Path as FilePath
from typing import Any, Final

import attrs

from swarm.agents import Ref

TAG: Final = "$"
"""The key of a dict that stands for something which is not JSON."""

_MOST: Final = 4_000
"""How many characters of a value that cannot be recorded are shown."""


def module_of(thing: Any) -> str:
    """Return the module to import something from, also when it runs as a script."""
    module: str = getattr(thing, "__module__", "") or ""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return "__main__" if file is None else FilePath(file).stem


def name_of(thing: Any) -> str:
    """Return where a class or function is: "module:qualified.name"."""
    return f"{module_of(thing)}:{getattr(thing, '__qualname__', repr(thing))}"


def encode_value(value: Any) -> Any:
    """Return a value as JSON; what has no form of its own is kept as its repr."""
    if value is None or type(value) is bool or type(value) is str:
        return value
    if type(value) is int:
        return value if abs(value) < 2**63 else {TAG: "int", "text": str(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {TAG: "float", "text": str(value)}
    if type(value) is list:
        return [encode_value(each) for each in value]
    if type(value) is dict and TAG not in value:
        if all(type(key) is str for key in value):
            return {key: encode_value(each) for key, each in value.items()}
        return {TAG: "dict", "items": [encode_value([*pair]) for pair in value.items()]}
    if type(value) in (tuple, set, frozenset):
        kind = type(value).__name__
        return {TAG: kind, "items": [encode_value(each) for each in value]}
    return _encode_other(value)


def _encode_other(value: Any) -> Any:
    if isinstance(value, Ref):
        return {TAG: "ref", "name": value.name}
    if isinstance(value, enum.Enum):
        return {TAG: "enum", "class": name_of(type(value)), "name": value.name}
    if type(value) is bytes:
        return {TAG: "bytes", "hex": value.hex()}
    if type(value) is datetime.datetime:
        return {TAG: "datetime", "text": value.isoformat()}
    if type(value) is datetime.timedelta:
        return {TAG: "timedelta", "seconds": value.total_seconds()}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return {TAG: "name", "of": name_of(value)}
    fields = _fields_of(value)
    if fields is not None:
        encoded = {
            name: encode_value(getattr(value, attribute))
            for name, attribute in fields.items()
        }
        return {TAG: "new", "class": name_of(type(value)), "fields": encoded}
    return {TAG: "opaque", "type": name_of(type(value)), "repr": shown(value)}


def _fields_of(value: Any) -> dict[str, str] | None:
    """Return the arguments of a record's class, and its attributes of them.

    None: it is no record.
    """
    if dataclasses.is_dataclass(value):
        return {each.name: each.name for each in dataclasses.fields(value) if each.init}
    if attrs.has(type(value)):
        return {
            each.alias or each.name: each.name
            for each in attrs.fields(type(value))
            if each.init
        }
    return None


def shown(value: Any) -> str:
    """Return the repr of a value of the user, whatever it does."""
    try:
        return repr(value)[:_MOST]
    except Exception as error:  # noqa: BLE001  # the repr is user code
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON."""
    return {"class": name_of(type(error)), "message": str(error)[:_MOST]}

"""Values as they may be shown: secrets masked, sizes bounded. Pure."""

import re
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import attrs

from swarm.model import check_text, check_whole

MASK: Final = "***"

_SECRET: Final = re.compile(
    r"""(?x)
    (^|_)(
        [a-z]*(password|passwd|passphrase|passcode|secret|secrets|apikey)
      | [a-z]*token(?!_(count|limit|usage|budget))
      | pwd | dsn | auth | authorization | cookie | cookies | bearer
      | credential | credentials
      | (api|access|private|secret|signing|session|encryption|master)_key
    )(_|$)
    """
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER: Final = re.compile(r"[^a-z0-9]+")
_IN_URL: Final = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]+(?=@)")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}")
_KEY: Final = re.compile(r"""(?<![\w.-])([\w.-]{1,80})\\*["']?[ \t]*[:=][ \t]*""")
"""A key in a text with what separates it from its value."""
_VALUE: Final = re.compile(
    r"""(?xs)
    (?P<scheme> (?i:bearer|basic) [ ]+ )?
    (
        [bru]{0,2} " (?: [^"\\] | \\. )* (?: "|$ )
      | [bru]{0,2} ' (?: [^'\\] | \\. )* (?: '|$ )
      | \\+["'] .*? (?: \\+["'] | $ )
      | \[ [^]]* ]? | \{ [^}]* }?
      | [^\s,;&"'<>]+
    )
    """
)
_CUT_URL: Final = re.compile(r"://[^/\s@]*$")
_SPARE: Final = 500
"""Characters beyond a cut that are read: masks are shorter than secrets."""
_PLAIN: Final = frozenset({"None", "null"})


@lru_cache(maxsize=4_096)
def is_secret(name: str) -> bool:
    """Return whether a key of this name holds a secret.

    "apiKey", "db_password", "Authorization" and "refresh-token" do; "max_tokens" and
    "token_count" do not.
    """
    words = _OTHER.sub("_", _HUMP.sub("_", name).lower())
    return _SECRET.search(words) is not None


def masked(
    value: Any,
    *,
    name: str = "",
    text: int = 2_000,
    items: int = 100,
    depth: int = 12,
) -> Any:
    """Return a JSON value as it may be shown: without secrets, and of bounded size.

    A value whose key names a secret (password, token, secret, api_key, authorization,
    cookie, ...) is "***", but None stays, and so does a number under a key that ends in
    "token": that is a fencing token. In text, the password of a URL, a bearer token and
    what follows such a key and ":" or "=" are masked. Other secrets are not known.

    Args:
        value: A JSON value. Of an attrs object the fields are shown, of an enum the
            value, of anything else the `repr`.
        name: The key it stands under.
        text: How many characters of a text are kept; "…" marks the cut.
        items: How many items of a list or dict are kept; an item "…" counts the rest.
        depth: How deep nesting goes; a deeper value is "…".

    Raises:
        TypeError: A bound is no whole number.
        ValueError: A bound is negative.
    """
    check_whole("text", text, 0)
    check_whole("items", items, 0)
    check_whole("depth", depth, 0)
    check_text("name", name)
    return _masked(value, name, text, items, depth)


def _masked(value: Any, name: str, text: int, items: int, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value if value is None or not is_secret(name) else MASK
    kind = type(value)
    is_number = kind is int or kind is float
    if name and is_secret(name) and not (is_number and name.endswith("token")):
        return MASK
    if is_number:
        return value
    if kind is str:
        return shown_text(value, text)
    if kind is dict or kind is list or kind is tuple:
        if depth <= 0:
            return "…"
        left = len(value) - items
        if kind is dict:
            shown = {
                str(key): _masked(item, str(key), text, items, depth - 1)
                for key, item in islice(value.items(), items)
            }
            return {**shown, "…": f"{left} more"} if left > 0 else shown
        listed = [_masked(item, "", text, items, depth - 1) for item in value[:items]]
        return [*listed, f"… {left} more"] if left > 0 else listed
    if isinstance(value, Enum):
        return _masked(value.value, name, text, items, depth)
    if attrs.has(kind) and depth > 0:
        fields = {f.name: getattr(value, f.name) for f in attrs.fields(kind)}
        return _masked(fields, "", text, items, depth)
    return shown_text(repr(value), text)


def masked_text(text: str) -> str:
    """Return a text without its secrets.

    Masked are passwords of URLs, bearer tokens, and values after a key that names a
    secret, as in "password=x", '"api_key": "x"' and "Authorization: Basic x". A number
    after a key that ends in "token" stays.
    """
    if "://" in text:
        text = _IN_URL.sub(MASK, text)
    if "=" in text or ":" in text:
        text = _masked_pairs(text)
    if "earer" in text or "asic" in text or "EARER" in text:
        text = _BEARER.sub(rf"\1 {MASK}", text)
    return text


def _masked_pairs(text: str) -> str:
    kept: list[str] = []
    done = at = 0
    while (key := _KEY.search(text, at)) is not None:
        at = key.end()
        name = key[1]
        if not is_secret(name) or (value := _VALUE.match(text, at)) is None:
            continue
        secret = value[2]
        if secret[0] not in "[{":  # else the brackets are of what it stands in
            secret = secret.rstrip(")]}") or secret
        at = value.start(2) + len(secret)
        if secret in _PLAIN or (secret.isdigit() and name.endswith("token")):
            continue
        kept += [text[done : value.start(2)], MASK]
        done = at
    return text if not kept else "".join([*kept, text[done:]])


def shown_text(text: str, length: int) -> str:
    """Return at most `length` characters of a text, without its secrets."""
    if len(text) > length + _SPARE:  # so that long texts cost no more than short ones
        text = _CUT_URL.sub("://", text[: length + _SPARE])
    return clipped(masked_text(text), length)


def clipped(text: str, length: int) -> str:
    """Return at most `length` characters of a text; "…" marks the cut."""
    return text if len(text) <= length else f"{text[: max(0, length - 1)]}…"

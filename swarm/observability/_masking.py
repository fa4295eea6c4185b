"""Values as they may be shown: secrets masked, sizes bounded. Pure."""

import re
from enum import Enum
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Final

import attrs

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
    "token": that is a fencing token. In text, the password
    of a URL and a bearer token are masked. Secrets under other keys are not known.

    Args:
        value: A JSON value. Of an attrs object the fields are shown, of an enum the
            value, of anything else the `repr`.
        name: The key it stands under.
        text: How many characters of a text are kept; "…" marks the cut.
        items: How many items of a list or dict are kept; an item "…" counts the rest.
        depth: How deep nesting goes; a deeper value is "…".
    """
    if value is None or value is True or value is False:
        return value if value is None or not is_secret(name) else MASK
    kind = type(value)
    is_number = kind is int or kind is float
    if name and is_secret(name) and not (is_number and name.endswith("token")):
        return MASK
    if is_number:
        return value
    if kind is str:
        return clipped(masked_text(value), text)
    if kind is dict or kind is list or kind is tuple:
        if depth <= 0:
            return "…"
        below = partial(masked, text=text, items=items, depth=depth - 1)
        left = len(value) - items
        if kind is dict:
            chosen = islice(value.items(), items)
            shown = {str(key): below(item, name=str(key)) for key, item in chosen}
            return {**shown, "…": f"{left} more"} if left > 0 else shown
        listed = [below(item) for item in value[:items]]
        return [*listed, f"… {left} more"] if left > 0 else listed
    if isinstance(value, Enum):
        return masked(value.value, name=name)
    if attrs.has(kind) and depth > 0:
        fields = {f.name: getattr(value, f.name) for f in attrs.fields(kind)}
        return masked(fields, text=text, items=items, depth=depth)
    return clipped(masked_text(repr(value)), text)


def masked_text(text: str) -> str:
    """Return a text without passwords of URLs and bearer tokens."""
    if "://" in text:
        text = _IN_URL.sub(MASK, text)
    if "earer" in text or "asic" in text or "EARER" in text:
        text = _BEARER.sub(rf"\1 {MASK}", text)
    return text


def clipped(text: str, length: int) -> str:
    """Return at most `length` characters of a text; "…" marks the cut."""
    return text if len(text) <= length else f"{text[: max(0, length - 1)]}…"

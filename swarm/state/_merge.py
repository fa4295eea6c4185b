"""Deep merge. Pure.

The laws (semantics.md, S8): `merge(a, {}) == a` for a mapping `a`,
`merge(merge(a, p), p) == merge(a, p)`; mappings merge, everything else replaces,
lists too; nothing of either argument is shared with the result's own containers.
"""

from swarm.model import ABSENT, DELETE, JSON


def deep_merge(base: JSON, patch: JSON) -> JSON:
    """Return `base` with `patch` laid over it; a DELETE in it takes a key away."""
    return _merge(base, patch, DELETE)


def merge_patch(base: JSON, patch: JSON) -> JSON:
    """Return `base` patched as RFC 7396 says: a null takes a key away."""
    return _merge(base, patch, None)


def _merge(base: JSON, patch: JSON, gone: object) -> JSON:
    if type(patch) is not dict:
        return patch
    merged = dict(base) if type(base) is dict else {}
    for key, value in patch.items():
        if value is gone:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key, ABSENT), value, gone)
    return merged

"""The one script: a commit on the server, and how its arguments are packed. Pure.

The script checks what a rule looked at, and writes what the rule decided, in one step.
It treats documents and log entries as opaque bytes. Numbers stay below 2**53.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

Part = bytes | str | int

CONFLICT: Final = 0
DONE: Final = 1
WRONG_TIME: Final = 2

KEPT: Final = 600_000_000
"""Microseconds for which the server remembers the outcome of an operation."""

COMMIT: Final = """
local known = redis.call('GET', KEYS[7])
if known then
  local new, old, time = string.match(known, '(%S+) (%S+) (%S+)')
  return {1, new, old, time}
end
local at = 0
local function take() at = at + 1; return ARGV[at] end
local function text(n) return string.format('%.0f', n) end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local revision = tonumber(redis.call('GET', KEYS[1]) or '0')
local earliest, latest = tonumber(take()), tonumber(take())
if latest > 0 and (now < earliest or now > latest) then
  return {2, text(revision), '', text(now)}
end
for _ = 1, tonumber(take()) do
  local path, version = take(), take()
  if (redis.call('HGET', KEYS[3], path) or '0') ~= version then
    return {0, text(revision), path, text(now)}
  end
end
for _ = 1, tonumber(take()) do
  local folder, upto = take(), tonumber(take())
  if tonumber(redis.call('HGET', KEYS[4], folder) or '0') > upto then
    return {0, text(revision), folder, text(now)}
  end
end
local entry = take()
if entry == '' then return {1, text(revision), text(revision), text(now)} end
local new = revision + 1
if now > new then new = now end
local floor = tonumber(take()) + 1
if floor > new then new = floor end
local name = text(new)
local length = take()
for _ = 1, tonumber(take()) do
  local path, body, expires = take(), take(), take()
  if body == '' then
    redis.call('HDEL', KEYS[2], path)
    redis.call('HDEL', KEYS[3], path)
  else
    redis.call('HSET', KEYS[2], path, name .. ' ' .. body)
    redis.call('HSET', KEYS[3], path, name)
  end
  if expires == '' then
    redis.call('ZREM', KEYS[5], path)
  else
    redis.call('ZADD', KEYS[5], expires, path)
  end
end
for _ = 1, tonumber(take()) do redis.call('HSET', KEYS[4], take(), name) end
redis.call('SET', KEYS[1], name)
redis.call('XADD', KEYS[6], 'MAXLEN', '~', length, name .. '-0',
           'p', text(revision), 'o', KEYS[7], 'c', entry)
redis.call('SET', KEYS[7], name .. ' ' .. text(revision) .. ' ' .. text(now),
           'EX', '%d')
return {1, name, text(revision), text(now)}
""".replace("%d", str(KEPT // 1_000_000))
"""KEYS: revision, documents, versions, folders, due, log, operation."""


class Keys(NamedTuple):
    """The keys of one swarm; they share a hash slot."""

    revision: str
    documents: str
    versions: str
    folders: str
    due: str
    log: str
    snapshots: str
    operation: str

    @classmethod
    def of(cls, prefix: str, name: str) -> "Keys":
        """Return the keys of the swarm `name`; `operation` is a beginning."""
        slot = f"{{{prefix}:{name}}}"
        return cls(
            f"{slot}:rev",
            f"{slot}:docs",
            f"{slot}:vers",
            f"{slot}:folders",
            f"{slot}:due",
            f"{slot}:log",
            f"{slot}:snaps",
            f"{slot}:op:",
        )


class Written(NamedTuple):
    """One document of a commit, packed.

    Attributes:
        path: Where it stands.
        body: Its line; b"" deletes it.
        expires: When it ends, in kernel time, or None.
    """

    path: str
    body: bytes
    expires: int | None


def pack(
    versions: Mapping[str, int],
    folders: Mapping[str, int],
    window: tuple[int, int],
    entry: bytes,
    writes: Sequence[Written],
    ancestors: Sequence[str],
    length: int,
    floor: int,
) -> list[Part]:
    """Return the arguments of the script.

    Args:
        versions: The version that each of these paths must have; 0: absent.
        folders: The revision after which nothing at or below each may have changed.
        window: Between which server times the commit holds; (0, 0): at any.
        entry: The log entry; b"": only check.
        writes: The documents.
        ancestors: The folders above them.
        length: How many entries the log keeps, about.
        floor: The newest revision that the caller knows. The commit's is higher, also
            on a server that has lost commits.
    """
    parts: list[Part] = [window[0], window[1], len(versions)]
    for path, version in versions.items():
        parts += (path, version)
    parts.append(len(folders))
    for folder, revision in folders.items():
        parts += (folder, revision)
    parts.append(entry)
    if not entry:
        return parts
    parts += (floor, length, len(writes))
    for path, body, expires in writes:
        parts += (path, body, "" if expires is None else expires)
    parts.append(len(ancestors))
    parts += ancestors
    return parts

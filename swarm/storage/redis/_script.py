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
TAKEN: Final = 3

TURN: Final = 100
"""Milliseconds for which one process alone may write a document, after conflicts."""

KEPT: Final = 600_000_000
"""Microseconds for which the server remembers the outcome of an operation."""

COMMIT: Final = """
local call, args = redis.call, ARGV
local known = call('GET', KEYS[6])
if known then
  local new, old, time = string.match(known, '(%S+) (%S+) (%S+)')
  return {1, new, old, time}
end
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function text(n) return string.format('%.0f', n) end
local old = call('GET', KEYS[1]) or '0'
local floor, most = args[3], args[4]
local function missed()
  if most == '0' or old == floor then return {} end
  return call('XRANGE', KEYS[5], '(' .. floor .. '-0', '+', 'COUNT', most)
end
if now < tonumber(args[1]) or now > tonumber(args[2]) then
  return {2, old, '', text(now)}
end
local turn = call('GET', KEYS[7])
local owner, reserved = string.match(turn or '', '(%S+) (.*)')
local at = 8
for _ = 1, tonumber(args[7]) do
  if (call('HGET', KEYS[3], args[at]) or '0') ~= args[at + 1] then
    if args[6] == '1' and (not turn or owner == args[5]) then
      call('SET', KEYS[7], args[5] .. ' ' .. args[at], 'PX', '%turn')
    end
    return {0, old, args[at], text(now), missed()}
  end
  at = at + 2
end
local count = tonumber(args[at])
at = at + 1
for _ = 1, count do
  local changed = call('HGET', KEYS[4], args[at])
  if changed and tonumber(changed) > tonumber(args[at + 1]) then
    return {0, old, args[at], text(now), missed()}
  end
  at = at + 2
end
local entry, length = args[at], args[at + 1]
if entry == '' then return {1, old, old, text(now), missed()} end
if turn and owner ~= args[5] then
  for n = 1, tonumber(args[at + 2]) do
    if args[at + 2 * n + 1] == reserved then
      return {3, old, reserved, text(now), missed()}
    end
  end
end
local news = missed()
local new = math.max(tonumber(old), tonumber(floor)) + 1
if now > new then new = now end
local name = text(new)
count = tonumber(args[at + 2])
at = at + 3
for _ = 1, count do
  local path, body = args[at], args[at + 1]
  if body == '' then
    call('HDEL', KEYS[2], path)
    call('HDEL', KEYS[3], path)
  else
    call('HSET', KEYS[2], path, name .. ' ' .. body)
    call('HSET', KEYS[3], path, name)
  end
  at = at + 2
end
for n = at, #args do call('HSET', KEYS[4], args[n], name) end
if owner == args[5] then call('DEL', KEYS[7]) end
call('SET', KEYS[1], name)
call('XADD', KEYS[5], 'MAXLEN', '~', length, name .. '-0',
     'p', old, 'o', KEYS[6], 'c', entry)
call('SET', KEYS[6], name .. ' ' .. old .. ' ' .. text(now), 'EX', '%d')
return {1, name, old, text(now), news}
""".replace("%d", str(KEPT // 1_000_000)).replace("%turn", str(TURN))
"""KEYS: revision, documents, versions, folders, log, operation, turn.

A process whose commits met conflicts asks for the turn: until it has committed, or its
time is up, no other process writes the document that had changed. So a process that
is slower than others is not put off for ever.

The reply: the status; the newest revision; the one before the commit, or what has
changed; the server's time; the log entries that the caller asked for.
"""


class Keys(NamedTuple):
    """The keys of one swarm; they share a hash slot."""

    revision: str
    documents: str
    versions: str
    folders: str
    log: str
    snapshots: str
    turn: str
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
            f"{slot}:log",
            f"{slot}:snaps",
            f"{slot}:turn",
            f"{slot}:op:",
        )


class Written(NamedTuple):
    """One document of a commit, packed.

    Attributes:
        path: Where it stands.
        body: Its line; b"" deletes it.
    """

    path: str
    body: bytes


def pack(
    versions: Mapping[str, int],
    folders: Mapping[str, int],
    window: tuple[int, int],
    entry: bytes,
    writes: Sequence[Written],
    ancestors: Sequence[str],
    length: int,
    floor: int,
    most: int,
    origin: str,
    is_asking: bool,
) -> list[Part]:
    """Return the arguments of the script.

    Args:
        versions: The version that each of these paths must have; 0: absent.
        folders: The revision after which nothing at or below each may have changed.
        window: Between which server times the commit holds.
        entry: The log entry; b"": only check.
        writes: The documents.
        ancestors: The folders above them.
        length: How many entries the log keeps, about.
        floor: The newest revision that the caller knows. The commit's is higher, also
            on a server that has lost commits.
        most: How many log entries after `floor` the reply may bring.
        origin: The process, in one word.
        is_asking: Whether it asks for the turn in case of a conflict.
    """
    parts: list[Part] = [*window, floor, most, origin, int(is_asking), len(versions)]
    for path, version in versions.items():
        parts += (path, version)
    parts.append(len(folders))
    for folder, revision in folders.items():
        parts += (folder, revision)
    parts.append(entry)
    if not entry:
        return parts
    parts += (length, len(writes))
    for written in writes:
        parts += written
    parts += ancestors
    return parts

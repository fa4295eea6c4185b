"""The one script: a commit on the server, and how its arguments are packed. Pure.

The script checks what a rule looked at, and writes what the rule decided, in one step.
It treats documents and log entries as opaque bytes. Numbers stay below 2**53.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

Part = bytes | str | int

FORMAT: Final = 1
"""Version of the form of documents, versions and log entries in the keys."""

CONFLICT: Final = 0
DONE: Final = 1
WRONG_TIME: Final = 2
TAKEN: Final = 3

_TURN: Final = ".turn"

_NUMBERS: Final = Struct("<ddddddddddddd")
"""All numbers of a commit in one argument: each argument costs both sides time."""

TURN: Final = 100_000
"""Microseconds for which one process alone may write a document, after conflicts."""

KEPT: Final = 600_000_000
"""Microseconds for which the server remembers the outcome of an operation."""

COMMIT: Final = """
local call, args = redis.call, ARGV
local early, late, floor, most, is_asking, number, is_first, length, versions, folders,
  written, deleted, above = struct.unpack('<ddddddddddddd', args[1])
local origin, head = args[2], args[3]
local function text(n) return string.format('%.0f', n) end
local operation = text(number)
local known = call('HGET', KEYS[4], operation)
if known then
  local new, old, time = string.match(known, '(%S+) (%S+) (%S+)')
  return {1, new, old, time}
end
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function each(command, key, list, first, last)
  for at = first, last, 4000 do
    call(command, key, unpack(list, at, math.min(at + 3999, last)))
  end
end
local time, count, at = text(now), versions + folders, 4
local seen
if count <= 4000 then
  seen = call('HMGET', KEYS[2], unpack(args, at, at + count - 1))
else
  seen = {}
  for from = at, at + count - 1, 4000 do
    local to = math.min(from + 3999, at + count - 1)
    local found = call('HMGET', KEYS[2], unpack(args, from, to))
    for n = 1, #found do seen[from - at + n] = found[n] end
  end
end
local old = seen[1] or '0'
local function missed()
  if most == 0 or old + 0 == floor then return {} end
  return call('XRANGE', KEYS[3], '(' .. text(floor) .. '-0', '+', 'COUNT', most)
end
if now < early or now > late then return {2, old, '', time} end
local owner, ends, reserved
if seen[2] then
  owner, ends, reserved = string.match(seen[2], '(%S+) (%S+) (.*)')
  if now > ends + 0 then owner = nil end
end
for n = 3, versions do
  if (seen[n] or '0') ~= args[at + count + n - 3] then
    if is_asking == 1 and (not owner or owner == origin) then
      local turn = origin .. ' ' .. text(now + %turn) .. ' ' .. args[at + n - 1]
      call('HSET', KEYS[2], '.turn', turn)
    end
    return {0, old, args[at + n - 1], time, missed()}
  end
end
local trimmed
for n = versions + 1, count do
  if not seen[n] then
    trimmed = trimmed or call('HGET', KEYS[2], '.trimmed') or '0'
    seen[n] = trimmed
  end
  if seen[n] + 0 > args[at + count + n - 3] + 0 then
    return {0, old, args[at + n - 1], time, missed()}
  end
end
at = at + 2 * count - 2
if head == '' and written + deleted == 0 then
  return {1, old, old, time, missed()}
end
local gone = at + 2 * written
if owner and owner ~= origin then
  for n = at, gone + deleted - 1, 1 do
    if args[n] == reserved and (n >= gone or (n - at) % 2 == 0) then
      return {3, old, reserved, time, missed()}
    end
  end
end
local news = missed()
local new, name = math.max(old + 0, floor) + 1
if now > new then name = time else name = text(new) end
local rows, changed = {}, {'', name}
each('HSET', KEYS[1], args, at, gone - 1)
for n = at, gone - 1, 2 do
  rows[#rows + 1] = args[n + 1]
  changed[#changed + 1] = args[n]
  changed[#changed + 1] = name
end
at = gone
if deleted > 0 then
  each('HDEL', KEYS[1], args, at, at + deleted - 1)
  each('HDEL', KEYS[2], args, at, at + deleted - 1)
  at = at + deleted
  table.insert(rows, 1, args[at])
  at = at + 1
end
for n = at, at + above - 1 do
  changed[#changed + 1] = args[n]
  changed[#changed + 1] = name
end
at = at + above
each('HSET', KEYS[2], changed, 1, #changed)
if owner == origin then call('HDEL', KEYS[2], '.turn') end
call('XADD', KEYS[3], 'MAXLEN', '~', length, name .. '-0', 'p', old,
     'o', origin .. '-' .. operation, 'd', table.concat(rows, '\\n'), 'h', head)
call('HSET', KEYS[4], operation, name .. ' ' .. old .. ' ' .. time)
if is_first == 1 then call('EXPIRE', KEYS[4], %kept) end
each('HDEL', KEYS[4], args, at, #args)
return {1, name, old, time, news}
""".replace("%kept", str(KEPT // 1_000_000)).replace("%turn", str(TURN))
"""KEYS: documents, versions, log, operations of the process.

Each field of the versions is one fact: "" has the newest revision; a path, the version
of its document; a path and a dot, the revision of the last change below this folder;
".turn", which process alone may write which document, and until when; ".trimmed", the
newest revision of a folder that was forgotten: a folder without a field has not changed
since then; ".format", how all of this is written (`FORMAT`).

A process whose commits met conflicts asks for the turn: until it has committed, or its
time is up, no other process writes the document that had changed. So a process that
is slower than others is not put off for ever.

The operations hold the outcome of each commit until the process has acknowledged it.

The reply: the status; the newest revision; the one before the commit, or what has
changed; the server's time; the log entries that the caller asked for.
"""


TRIM: Final = """
local newest = (redis.call('HGET', KEYS[1], '.trimmed') or '0') + 0
for n = 2, #ARGV do
  local seen = redis.call('HGET', KEYS[1], ARGV[n])
  if seen and seen + 0 <= ARGV[1] + 0 then
    redis.call('HDEL', KEYS[1], ARGV[n])
    newest = math.max(newest, seen + 0)
  end
end
redis.call('HSET', KEYS[1], '.trimmed', string.format('%.0f', newest))
"""
"""KEYS: versions. Forgets empty folders, unless they changed after a revision."""


class Keys(NamedTuple):
    """The keys of one swarm; they share a hash slot."""

    documents: str
    versions: str
    log: str
    snapshots: str
    operations: str

    @classmethod
    def of(cls, prefix: str, name: str) -> "Keys":
        """Return the keys of the swarm `name`; `operations` is a beginning."""
        slot = f"{{{prefix}:{name}}}"
        return cls(
            f"{slot}:docs",
            f"{slot}:vers",
            f"{slot}:log",
            f"{slot}:snaps",
            f"{slot}:op:",
        )


class Packed(NamedTuple):
    """The documents of a commit, packed.

    Attributes:
        written: The path and the line of each document, in turns.
        deleted: The paths of the deleted documents.
        lines: The lines of the deleted documents, joined.
        folders: The fields of the folders above all of them.
        head: What else the log entry tells, or b"".
    """

    written: Sequence[Part] = ()
    deleted: Sequence[str] = ()
    lines: bytes = b""
    folders: Sequence[str] = ()
    head: bytes = b""


NOTHING: Final = Packed()
"""A commit that only checks its conditions."""


def folder_field(folder: str) -> str:
    """Return the field that tells when something below a folder changed last."""
    return f"{folder}."


def pack(
    versions: Mapping[str, int],
    folders: Mapping[str, int],
    window: tuple[int, int],
    packed: Packed,
    acknowledged: Sequence[int],
    *,
    origin: str,
    number: int,
    floor: int,
    most: int,
    length: int,
    is_asking: bool,
    is_first: bool,
) -> list[Part]:
    """Return the arguments of the script.

    Args:
        versions: The version that each of these paths must have; 0: absent.
        folders: The revision after which nothing below each may have changed.
        window: Between which server times the commit holds.
        packed: What it writes.
        acknowledged: Operations of the process whose outcome may be forgotten.
        origin: The process, in one word.
        number: The number of the operation.
        floor: The newest revision that the caller knows. The commit's is higher, also
            on a server that has lost commits.
        most: How many log entries after `floor` the reply may bring.
        length: How many entries the log keeps, about.
        is_asking: Whether it asks for the turn in case of a conflict.
        is_first: Whether the memory of operations has to be kept for longer.
    """
    written, deleted, lines, above, head = packed
    numbers = _NUMBERS.pack(
        *window,
        floor,
        most,
        is_asking,
        number,
        is_first,
        length,
        len(versions) + 2,
        len(folders),
        len(written) >> 1,
        len(deleted),
        len(above),
    )
    parts: list[Part] = [numbers, origin, head, "", _TURN, *versions]
    if folders:
        parts += map(folder_field, folders)
    parts += versions.values()
    if folders:
        parts += folders.values()
    parts += written
    if deleted:
        parts += deleted
        parts.append(lines)
    parts += above
    parts += acknowledged
    return parts

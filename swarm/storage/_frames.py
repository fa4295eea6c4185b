"""Frames: how batches of commits and blocks of snapshots lie in a file. Pure.

A batch of commits is one frame with one checksum. Sectors of a write can reach the
disk in any order, so a frame for each commit could be whole while an earlier one of the
same write is not, and a healthy journal would look damaged.

A frame also says up to which revision the file had been synced when it was written.
A broken frame is a torn tail, unless a whole frame behind it says that the broken one
had been synced: then it is damage.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import Final

import attrs

from swarm.errors import SchemaVersionError, StateCorruption
from swarm.ports import Entry

FORMAT: Final = 1
"""The version of the file formats in this module."""

MAX_BLOCK: Final = 64 * 1024 * 1024
"""Bytes a block of a snapshot holds at most, decompressed."""

_FILE: Final = struct.Struct("<8sHH8sQ")  # magic, format, 0, file id, base revision
_CRC: Final = struct.Struct("<I")
HEADER_SIZE: Final = _FILE.size + _CRC.size
_JOURNAL: Final = b"SWARMJNL"
_SNAPSHOT: Final = b"SWARMSNP"

_FRAME: Final = struct.Struct("<4sIIQQ")  # magic, length, count, first, durable
_MAGIC: Final = b"\xf5SWF"
_ENTRY: Final = struct.Struct("<QI")  # revision, length
_FRAME_SIZE: Final = _FRAME.size + _CRC.size

_BLOCK: Final = struct.Struct("<BII")  # codec, raw length, stored length
_BLOCK_HEAD: Final = _BLOCK.size + _CRC.size
_END: Final = 255
_RAW: Final = 0
_ZLIB: Final = 1
_ZSTD: Final = 2
CODECS: Final = {"": _RAW, "zlib": _ZLIB, "zstd": _ZSTD}


# --- the head of a file -----------------------------------------------------------


def file_head(file_id: bytes, base: int, *, is_journal: bool) -> bytes:
    """Return the head of a journal after revision `base`, or of a snapshot at it."""
    magic = _JOURNAL if is_journal else _SNAPSHOT
    head = _FILE.pack(magic, FORMAT, 0, file_id, base)
    return head + _CRC.pack(zlib.crc32(head))


def read_head(data: bytes, name: str, *, is_journal: bool) -> tuple[bytes, int]:
    """Return the file id and the base revision of a file.

    Raises:
        StateCorruption: The head is damaged, or that of another kind of file.
        SchemaVersionError: A newer version of swarm wrote the file.
    """
    if len(data) < HEADER_SIZE:
        raise StateCorruption(f"{name}: the head of the file is cut short")
    magic, form, _, file_id, base = _FILE.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _FILE.size)
    if zlib.crc32(data[: _FILE.size]) != crc:
        raise StateCorruption(f"{name}: the head of the file is damaged")
    if magic != (_JOURNAL if is_journal else _SNAPSHOT):
        raise StateCorruption(f"{name}: this is another kind of file")
    if form > FORMAT:
        raise SchemaVersionError(
            f"{name} has format {form}; this version of swarm reads up to {FORMAT}"
        )
    return file_id, base


# --- batches of commits -----------------------------------------------------------


def encode_batch(entries: Sequence[Entry], file_id: bytes, durable: int) -> bytes:
    """Return one frame that holds the entries.

    Args:
        entries: At least one, in revision order.
        file_id: The id in the head of the journal; part of the checksum.
        durable: The newest revision known to be synced.
    """
    parts: list[bytes] = []
    pack = _ENTRY.pack
    for revision, line in entries:
        parts += (pack(revision, len(line)), line)
    payload = b"".join(parts)
    head = _FRAME.pack(_MAGIC, len(payload), len(entries), entries[0].revision, durable)
    crc = zlib.crc32(payload, zlib.crc32(head, zlib.crc32(file_id)))
    return b"".join((head, _CRC.pack(crc), payload))


@attrs.frozen
class Scan:
    """The result of reading a journal.

    Attributes:
        entries: The commits, in revision order.
        end: Where the last whole frame ends; what lies behind it is a torn tail.
        durable: The newest revision that a frame says was synced.
    """

    entries: list[Entry]
    end: int
    durable: int


def scan_batches(data: bytes, file_id: bytes, base: int, name: str) -> Scan:
    """Return the commits of a journal, from behind its head to its last whole frame.

    Raises:
        StateCorruption: A frame that had been synced is broken, or frames are out
            of order.
    """
    view = memoryview(data)
    entries: list[Entry] = []
    at, newest, durable = HEADER_SIZE, base, base
    while at < len(data):
        frame = _read_frame(view, at, file_id)
        if frame is None:
            _check_torn(view, at, file_id, newest, name)
            break
        first, told, end = frame
        if first <= newest:
            raise StateCorruption(
                f"{name}: at byte {at}, revision {first} follows revision {newest}"
            )
        batch = _entries(data, at + _FRAME_SIZE, end)
        revisions = [revision for revision, _ in batch]
        if not all(map(lt, revisions, revisions[1:])):
            raise StateCorruption(f"{name}: revisions out of order at byte {at}")
        entries += batch
        newest, durable, at = batch[-1].revision, max(durable, told), end
    return Scan(entries, at, durable)


def read_batches(data: bytes) -> Iterator[tuple[int, int, list[Entry]]]:
    """Yield start, end and commits of each whole frame, whatever lies between them.

    For salvage: damage is skipped, not refused.
    """
    if len(data) < HEADER_SIZE:
        return
    file_id = _FILE.unpack_from(data)[3]
    view = memoryview(data)
    at = data.find(_MAGIC, HEADER_SIZE)
    while at >= 0:
        frame = _read_frame(view, at, file_id)
        if frame is None:
            at = data.find(_MAGIC, at + 1)
            continue
        end = frame[2]
        yield at, end, _entries(data, at + _FRAME_SIZE, end)
        at = data.find(_MAGIC, end)


def _read_frame(
    view: memoryview, at: int, file_id: bytes
) -> tuple[int, int, int] | None:
    """Return first revision, synced revision and end of the frame at `at`, or None."""
    if at + _FRAME_SIZE > len(view):
        return None
    magic, length, count, first, durable = _FRAME.unpack_from(view, at)
    end = at + _FRAME_SIZE + length
    if magic != _MAGIC or not count or end > len(view):
        return None
    (crc,) = _CRC.unpack_from(view, at + _FRAME.size)
    head = view[at : at + _FRAME.size]
    real = zlib.crc32(
        view[at + _FRAME_SIZE : end], zlib.crc32(head, zlib.crc32(file_id))
    )
    return (first, durable, end) if crc == real else None


def _entries(data: bytes, at: int, end: int) -> list[Entry]:
    found: list[Entry] = []
    unpack, size = _ENTRY.unpack_from, _ENTRY.size
    make = tuple.__new__  # half the time of calling `Entry`
    while at < end:
        revision, length = unpack(data, at)
        start = at + size
        at = start + length
        found.append(make(Entry, (revision, data[start:at])))
    return found


def _check_torn(
    view: memoryview, at: int, file_id: bytes, newest: int, name: str
) -> None:
    """Refuse a broken frame that a later, whole one says had been synced.

    A hostile file may be full of beginnings of frames. The search is given up, and
    the file refused, once it has summed up four times the size of the file.
    """
    data = view.obj
    assert isinstance(data, bytes)
    budget = 4 * len(data) + 1_000_000
    start = data.find(_MAGIC, at + 1)
    while start >= 0:
        frame = _read_frame(view, start, file_id)
        if frame is not None and frame[1] > newest:
            raise StateCorruption(
                f"{name}: damaged at byte {at}, after revision {newest}; "
                f"revision {frame[1]} had been synced"
            )
        if start + _FRAME_SIZE <= len(view):
            budget -= _FRAME.unpack_from(view, start)[1]
        if budget < 0:
            raise StateCorruption(f"{name}: damaged at byte {at} beyond recognition")
        start = data.find(_MAGIC, start + 1)


# --- blocks of a snapshot -----------------------------------------------------------


def encode_blocks(blocks: Iterable[bytes], codec: str = "") -> Iterator[bytes]:
    """Yield a snapshot's blocks as they are written, and then its end.

    The end holds the number of blocks and a checksum over all of them, so that a
    snapshot that is cut short, or put together from two, is noticed.

    Raises:
        ValueError: A block is larger than `MAX_BLOCK`.
    """
    kind = CODECS[codec]
    whole = hashlib.blake2b(digest_size=16)
    count = 0
    for block in blocks:
        if len(block) > MAX_BLOCK:
            raise ValueError(f"a block holds at most {MAX_BLOCK} bytes")
        stored = _compress(block, kind)
        head = _BLOCK.pack(kind, len(block), len(stored))
        crc = _CRC.pack(zlib.crc32(stored, zlib.crc32(head)))
        whole.update(crc)
        whole.update(block)
        count += 1
        yield b"".join((head, crc, stored))
    head = _BLOCK.pack(_END, count, whole.digest_size)
    digest = whole.digest()
    yield b"".join((head, _CRC.pack(zlib.crc32(digest, zlib.crc32(head))), digest))


def decode_blocks(data: bytes, name: str, at: int = HEADER_SIZE) -> list[bytes]:
    """Return the blocks of a snapshot, all of them verified.

    Raises:
        StateCorruption: A byte differs from what was written.
    """
    blocks: list[bytes] = []
    whole = hashlib.blake2b(digest_size=16)
    while True:
        kind, raw, crc, stored = _read_block(data, at, name)
        at += _BLOCK_HEAD + len(stored)
        if kind == _END:
            if raw != len(blocks) or stored != whole.digest() or at != len(data):
                raise StateCorruption(f"{name}: blocks are missing or out of place")
            return blocks
        block = _decompress(stored, kind, raw, name)
        whole.update(crc)
        whole.update(block)
        blocks.append(block)


def decode_first_block(data: bytes, name: str, at: int = HEADER_SIZE) -> bytes:
    """Return the first block of a snapshot; what comes after it is not looked at.

    Raises:
        StateCorruption: A byte of the block differs from what was written.
    """
    kind, raw, _, stored = _read_block(data, at, name)
    return _decompress(stored, kind, raw, name)


def _read_block(data: bytes, at: int, name: str) -> tuple[int, int, bytes, bytes]:
    """Return codec, raw length, checksum and stored bytes of a block, verified."""
    start = at + _BLOCK_HEAD
    if start > len(data):
        raise StateCorruption(f"{name}: cut short at byte {at}")
    head, crc = data[at : at + _BLOCK.size], data[at + _BLOCK.size : start]
    kind, raw, length = _BLOCK.unpack(head)
    stored = data[start : start + length]
    if len(stored) < length or _CRC.pack(zlib.crc32(stored, zlib.crc32(head))) != crc:
        raise StateCorruption(f"{name}: damaged at byte {at}")
    return kind, raw, crc, stored


def _compress(block: bytes, kind: int) -> bytes:
    if kind == _ZLIB:
        return zlib.compress(block, 1)
    if kind == _ZSTD:
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress(block)
    return block


def _decompress(stored: bytes, kind: int, raw: int, name: str) -> bytes:
    """Return a block, never holding more than it says it has and `MAX_BLOCK`."""
    if raw > MAX_BLOCK:
        raise StateCorruption(f"{name}: a block of {raw} bytes is too large")
    if kind == _RAW:
        block = stored
    elif kind == _ZLIB:
        unpacker = zlib.decompressobj()
        try:
            block = unpacker.decompress(stored, raw + 1)
        except zlib.error as error:
            raise StateCorruption(f"{name}: a block does not decompress") from error
    elif kind == _ZSTD:
        block = _unpack_zstd(stored, raw, name)
    else:
        raise StateCorruption(f"{name}: blocks of kind {kind} are unknown")
    if len(block) != raw:
        raise StateCorruption(f"{name}: a block has another size than it says")
    return block


def _unpack_zstd(stored: bytes, raw: int, name: str) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise StateCorruption(
            f"{name} is compressed with zstd; install swarm-actors[zstd] to read it"
        ) from error
    try:
        # The size in the frame wins over `max_output_size`, so look at it first.
        if zstandard.frame_content_size(stored) != raw:
            raise StateCorruption(f"{name}: a block has another size than it says")
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw)
    except zstandard.ZstdError as error:
        raise StateCorruption(f"{name}: a block does not decompress") from error

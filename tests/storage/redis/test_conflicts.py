"""Commits of several processes on one document: each comes through, and at once."""

import asyncio
from itertools import count

import pytest

from swarm.errors import ConflictError
from swarm.model import OWNER, Path
from swarm.ports import Entropy, Limits, LoopClock, Plan, Write
from swarm.storage.redis import RedisKernel
from swarm.storage.redis._loading import load
from swarm.storage.redis._proposals import Proposal, RecordingView
from swarm.storage.redis._reading_pace import ReadingPace
from swarm.storage.redis._script import CONFLICT
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)

NAMES = (f"conflicts-{n}" for n in count())
PATH = Path.parse("shared.n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def pair(server):
    """Two kernels of one tree."""
    name = next(NAMES)
    kernels = [RedisKernel(server.url, name, LoopClock(), Entropy()) for _ in range(2)]
    for kernel in kernels:
        await kernel.open()
        await kernel.put(OWNER, PATH, b"0")
    yield kernels
    for kernel in kernels:
        await kernel.close()


def add_one(view) -> Plan:
    value = int(view.find(PATH).json) + 1
    return Plan((Write(PATH, str(value).encode()),), (), value)


async def test_what_came_while_a_refusal_was_checked_is_looked_at(pair, monkeypatch):
    """What a rule refuses is refused on the newest state, not on what it had seen."""
    late, quick = pair
    send, asked = late._wire.send, 0

    async def catching_up(*command, **options):
        nonlocal asked
        asked += 1
        await late.tail.reach(quick.tail.revision)
        return await send(*command, **options)

    def refuse_nought(view) -> Plan:
        if (plan := add_one(view)).outcome == 1:
            raise ConflictError(message="it is nought")
        return plan

    monkeypatch.setattr(ReadingPace, "rest", lambda self, **told: 3600.0)
    async with asyncio.timeout(20):
        await late.tail.reach(quick.tail.revision)
        while (resting := late._follower._resting) is None or resting.done():
            await asyncio.sleep(0.001)
    await quick.apply(OWNER, add_one)
    monkeypatch.setattr(late._wire, "send", catching_up)
    _, value = await late.apply(OWNER, refuse_nought)
    assert (value, asked > 0) == (2, True)


async def test_a_process_that_is_always_overtaken_gets_its_turn(pair, monkeypatch):
    """The other process is refused until the slow one has committed."""
    slow, quick = pair
    overtaking: list[asyncio.Task[object]] = []
    send = slow._committer.send

    async def overtaken(*arguments):
        overtaking.append(asyncio.ensure_future(quick.apply(OWNER, add_one)))
        await asyncio.wait(overtaking[-1:], timeout=0.05)
        return await send(*arguments)

    monkeypatch.setattr(slow._committer, "send", overtaken)
    await slow.apply(OWNER, add_one)
    await asyncio.gather(*overtaking)
    assert 3 <= len(overtaking) <= 8
    assert (await quick.find(PATH)).json == str(len(overtaking) + 1).encode()


async def test_the_turn_of_a_process_that_has_died_ends(pair):
    quick, gone = pair
    keys = quick._committer._keys
    seconds, micros = await gone._wire.send("TIME")
    soon = int(seconds) * 1_000_000 + int(micros) + 50_000
    turn = f"op-of-the-dead {soon} {PATH.text}"
    await gone._wire.send("HSET", keys.versions, ".turn", turn)
    _, value = await quick.apply(OWNER, add_one)
    assert value == 1


@pytest.mark.parametrize("wrong_by", [10_000_000, -10_000_000])
async def test_a_rule_whose_time_is_wrong_runs_again_at_the_right_time(pair, wrong_by):
    """Else it would end the leases of others early, or let its own ones live on."""
    kernel, _ = pair
    times: list[int] = []

    def note(view) -> Plan:
        times.append(view.now)
        return add_one(view)

    kernel.tail._offset += wrong_by
    await kernel.apply(OWNER, note)
    seconds, _ = await kernel._wire.send("TIME")
    assert len(times) == 2
    assert abs(times[0] // 1_000_000 - int(seconds)) >= 5
    assert abs(times[1] // 1_000_000 - int(seconds)) < 5


async def test_a_process_that_asks_for_a_turn_takes_it_from_no_other(pair):
    quick, slow = pair
    key, send = quick._committer._keys.versions, quick._wire.send
    seconds, _ = await send("TIME")
    turn = f"op-of-another {int(seconds) + 60}000000 {PATH.text}".encode()
    await send("HSET", key, ".turn", turn)
    view = RecordingView(slow.tail)
    view.versions[PATH.text] = 1  # a version that it never had
    proposal = Proposal(view, slow.tail.now())
    status, *_ = await slow._committer.send(proposal, None, attempt=9)
    assert (status, await send("HGET", key, ".turn")) == (CONFLICT, turn)
    await send("HDEL", key, ".turn")
    await slow._committer.send(proposal, None, attempt=1)
    assert await send("HGET", key, ".turn") is None  # it does not ask at once
    await slow._committer.send(proposal, None, attempt=9)
    assert (await send("HGET", key, ".turn")).startswith(slow._committer._origin_bytes)
    await slow.apply(OWNER, add_one)
    assert await send("HGET", key, ".turn") is None


async def test_a_reply_brings_what_its_process_has_not_read_yet(pair):
    """A commit that met a conflict waits for no reading of the log."""
    late, quick = pair
    late._follower._task.cancel()
    await asyncio.sleep(0)
    for _ in range(3):
        await quick.apply(OWNER, add_one)
    _, value = await late.apply(OWNER, add_one)
    assert value == 4
    assert late.tail.revision == (await quick.find(PATH)).version


@pytest.mark.parametrize("is_trimmed", [False, True])
async def test_what_happens_while_the_tree_is_loaded_is_loaded_too(pair, is_trimmed):
    """Also if the log has let go of it meanwhile: then the documents are read again."""
    busy, late = pair
    keys, scans = late._committer._keys, 0
    gone = [Path.parse(f"shared.gone{n}") for n in range(3)]
    for path in gone:
        await busy.put(OWNER, path, b"1")

    async def send(*command):
        nonlocal scans
        reply = await late._wire.send(*command)
        if command[0] == "HSCAN":
            scans += 1
            if scans == 1:
                for path in gone:
                    await busy.commit(OWNER, [Write(path)])
                await busy.put(OWNER, PATH, b"7")
                if is_trimmed:
                    await busy._wire.send("XTRIM", keys.log, "MAXLEN", 1)
        return reply

    loaded = await load(send, keys, Limits())
    assert scans == 1 + is_trimmed
    assert {text: each.json for text, each in loaded.documents.items()} == {
        PATH.text: b"7"
    }
    assert loaded.revision == busy.tail.revision


async def test_the_server_keeps_few_outcomes_of_a_process(pair):
    """It forgets those whose replies have come, and has no key for each commit."""
    busy, _ = pair
    keys = await busy._wire.send("DBSIZE")
    for _ in range(200):
        await busy.put(OWNER, PATH, b"1")
    operations = busy._committer._operations
    assert await busy._wire.send("HLEN", operations) <= 64
    assert 0 < await busy._wire.send("TTL", operations) <= 600
    assert await busy._wire.send("DBSIZE") == keys

"""Swarms of one name on a real Redis server: the same program in many processes."""

import asyncio
import itertools
import json
import signal
import subprocess
import sys

import pytest
import redis.asyncio

from swarm import (
    AccessDenied,
    Agent,
    Compacted,
    Limits,
    LockTimeout,
    Pipeline,
    Policy,
    SchemaVersionError,
    Stage,
    StaleLease,
    StorageFailed,
    Swarm,
    SwarmConfig,
    TaskError,
    event,
    serves,
)
from tests.support.redis_server import Server, find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


class Greeter(Agent):
    async def greet(self) -> str:
        return "hello"


NAMES = (f"swarm-{n}" for n in itertools.count(1))


@event("redis.thing")
class Thing:
    n: int


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def pair(server):
    """Two swarms of one name."""
    name = next(NAMES)
    async with Swarm(name, server.url) as one, Swarm(name, server.url) as other:
        yield one, other


async def test_a_tree_of_a_later_version_is_refused_and_left_as_it_is(server):
    """D18: a program does not read what it does not know."""
    name = next(NAMES)
    async with redis.asyncio.Redis.from_url(server.url) as client:
        async with Swarm(name, server.url) as swarm:
            await swarm.state.set("shared.n", 1)
        key = f"{{swarm:{name}}}:vers"
        assert await client.hget(key, ".format") == b"1"
        await client.hset(key, ".format", 2)
        before = await client.hgetall(key)
        with pytest.raises(SchemaVersionError, match="format 2"):
            await Swarm.open(name, server.url)
        assert await client.hgetall(key) == before


async def test_the_server_forgets_the_operations_of_processes_that_lost_a_race(server):
    """Each process has a key of its own for outcomes; it ends ten minutes later."""
    name = next(NAMES)
    opening = (Swarm.open(name, server.url) for _ in range(6))
    swarms = await asyncio.gather(*opening)
    for swarm in swarms:
        await swarm.close()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        keys = await client.keys(f"*:{name}}}:op:*")
        assert len(keys) == 6
        assert all([0 < await client.ttl(key) <= 600 for key in keys])


async def test_the_server_forgets_outcomes_also_while_commits_meet_conflicts(server):
    """A process keeps at most those that it has yet to acknowledge there."""
    name = next(NAMES)

    async def count(swarm: Swarm) -> None:
        for _ in range(60):
            await swarm.state.increment("shared.count", 1)

    async with Swarm(name, server.url) as one, Swarm(name, server.url) as other:
        await asyncio.gather(*(count(swarm) for swarm in (one, other) * 4))
        assert await one.state.get("shared.count") == 480
        async with redis.asyncio.Redis.from_url(server.url) as client:
            keys = await client.keys(f"*:{name}}}:op:*")
            assert max([await client.hlen(key) for key in keys]) < 64


async def test_a_swarm_and_its_agents_have_a_repr_in_every_thread(pair):
    one, _ = pair
    for thing in (one, one.agents):
        assert await asyncio.to_thread(repr, thing) == repr(thing)
        assert await asyncio.to_thread(thing._repr_mimebundle_)


async def test_state_is_shared_and_reads_are_never_stale(pair):
    one, other = pair
    for n in range(30):
        version = (await one.state.set("shared.n", n)).version
        read = await other.state.read("shared.n")
        assert (read.value, read.version) == (n, version)
    await asyncio.gather(
        *(s.state.increment("shared.sum", 1) for s in pair for _ in range(20))
    )
    assert await one.state.get("shared.sum") == 40


async def test_hundreds_of_tasks_of_one_process_get_one_document_in_turn(pair):
    one, _ = pair

    async def enter() -> None:
        async with one.semaphore("many", capacity=400).acquire(timeout=60):
            pass

    await asyncio.gather(*(enter() for _ in range(150)))
    await asyncio.gather(*(one.state.set("shared.s", n) for n in range(300)))


async def test_a_transaction_that_was_overtaken_runs_again(pair):
    async def move(tx):
        a = await tx.get("shared.a", 0)
        await tx.set("shared.a", a + 1)
        await tx.set("shared.b", a + 1)

    await asyncio.gather(*(s.state.transact(move) for s in pair for _ in range(10)))
    assert await pair[0].state.get_many(["shared.a", "shared.b"]) == {
        "shared.a": 20,
        "shared.b": 20,
    }


async def test_a_watch_sees_the_changes_of_the_other_process_in_order(pair):
    one, other = pair
    seen = []
    async with other.state.watch("shared.w") as changes:
        for n in range(20):
            await one.state.set("shared.w", n)
        async for change in changes:
            seen.append(change.value)
            if change.value == 19:
                break
    assert seen == list(range(20))


async def test_a_lock_excludes_the_other_process_and_fences_its_writes(pair):
    one, other = pair
    lease = await one.lock("x").acquire(ttl=30)
    with pytest.raises(LockTimeout):
        await other.lock("x").acquire(timeout=0.05)
    await one.state.set("shared.report", 1, guard=lease)
    (held,) = other.locks.held()
    await other.locks.force_release(held.lease_id, reason="needed")
    with pytest.raises(StaleLease):
        await one.state.set("shared.report", 2, guard=lease)
    async with other.lock("x").acquire(timeout=5) as theirs:
        assert theirs.token > lease.token
    assert await other.state.get("shared.report") == 1


async def test_events_of_one_process_reach_handlers_of_the_other(pair):
    one, other = pair
    seen = []
    done = asyncio.Event()

    async def handle(ev) -> None:
        seen.append(ev.payload.n)
        if len(seen) == 30:
            done.set()

    await other.events.on(Thing, handle, name="billing", delivery="at-least-once")
    await asyncio.gather(*(one.events.publish(Thing(n)) for n in range(30)))
    async with asyncio.timeout(20):
        await done.wait()
    assert sorted(seen) == list(range(30))


async def test_tasks_are_shared_and_each_is_done_once(pair):
    one, _other = pair
    done: list[int] = []

    async def work(swarm) -> None:
        while len(done) < 12:
            async with swarm.tasks.claim("square", timeout=20) as claim:
                done.append(claim.payload["n"])
                await claim.complete(claim.payload["n"] ** 2)

    tasks = [await one.tasks.submit("square", {"n": n}) for n in range(12)]
    workers = [asyncio.ensure_future(work(swarm)) for swarm in pair]
    assert [await t.result(timeout=30) for t in tasks] == [n**2 for n in range(12)]
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(done) == list(range(12))


async def test_a_task_that_fails_in_one_process_tells_the_other_why(pair):
    one, other = pair
    task = await one.tasks.submit("bad", {}, max_retries=0)
    async with other.tasks.claim("bad", timeout=10) as claim:
        await claim.fail(ValueError("no such page"), retry=False)
    with pytest.raises(TaskError, match="no such page"):
        await task.result(timeout=10)


async def test_parties_of_two_processes_meet_at_a_barrier(pair):
    arrivals = await asyncio.gather(
        *(swarm.barrier("ready", 2).wait(timeout=10) for swarm in pair)
    )
    assert sorted(a.index for a in arrivals) == [0, 1]


async def test_a_swarm_without_a_server_says_how_to_start_one():
    with pytest.raises(StorageFailed, match="redis-server"):
        await Swarm.open("x", "redis://127.0.0.1:1/0")


WORKER = """
import asyncio, json, sys
from swarm import Swarm

async def main(url, name, rounds):
    async with Swarm(name, url) as swarm:
        print("ready", flush=True)
        for _ in range(rounds):
            async with swarm.lock("counter").acquire(timeout=60) as lease:
                count = await swarm.state.get("shared.count", 0)
                await asyncio.sleep(0)
                await swarm.state.set("shared.count", count + 1, guard=lease)
                print(json.dumps(lease.token), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def start_worker(server: Server, name: str, rounds: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKER, server.url, name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(120)
def test_a_lock_counts_exactly_over_four_processes(server):
    name = next(NAMES)
    workers = [start_worker(server, name, 10) for _ in range(4)]
    tokens = []
    for worker in workers:
        out, _ = worker.communicate(timeout=100)
        assert worker.returncode == 0
        tokens += [json.loads(line) for line in out.splitlines()[1:]]
    assert len(set(tokens)) == 40

    async def read() -> int:
        async with Swarm(name, server.url) as swarm:
            return await swarm.state.get("shared.count")

    assert asyncio.run(read()) == 40


@pytest.mark.timeout(120)
def test_the_lock_of_a_killed_process_ends_and_its_writes_stay(server):
    name = next(NAMES)
    worker = start_worker(server, name, 1_000_000)
    assert worker.stdout is not None
    tokens = [worker.stdout.readline() for _ in range(6)][1:]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()

    async def go_on() -> int:
        async with Swarm(name, server.url) as swarm:
            for held in swarm.locks.held():
                await swarm.locks.force_release(held.lease_id, reason="killed")
            async with swarm.lock("counter").acquire(timeout=40) as lease:
                assert lease.token > int(tokens[-1])
                return await swarm.state.get("shared.count")

    assert asyncio.run(go_on()) >= len(tokens)


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path):
    """D11."""
    server = Server(tmp_path, durable=True)
    server.start()

    async def program() -> None:
        async with Swarm("durable", server.url) as swarm:
            done = 0

            async def write() -> None:
                nonlocal done
                for n in range(1, 61):
                    await swarm.state.set("shared.n", n)
                    done = n

            task = asyncio.ensure_future(write())
            for at in (15, 35):
                while done < at:
                    await asyncio.sleep(0.001)
                server.kill()
                await asyncio.sleep(0.05)
                server.start()
            await task
            past = await swarm.state.history("shared.n", limit=100)
            assert [change.value for change in past] == list(range(1, 61))
        async with Swarm("durable", server.url) as again:
            assert await again.state.get("shared.n") == 60

    try:
        asyncio.run(program())
    finally:
        server.stop()


class Counter(Agent):
    async def count(self) -> int:
        return await self.state.increment("count")


async def test_agents_of_two_processes_have_names_of_their_own(pair):
    names = [(await swarm.spawn(Counter)).name for swarm in pair for _ in range(2)]
    assert len(set(names)) == 4


async def test_permits_of_a_semaphore_and_a_limiter_are_counted_together(pair):
    one, other = pair
    async with one.semaphore("llm", capacity=3).acquire(permits=2):
        with pytest.raises(LockTimeout):
            await other.semaphore("llm", capacity=3).acquire(permits=2, timeout=0.05)
        async with other.semaphore("llm", capacity=3).acquire(permits=1, timeout=5):
            pass
    for swarm in pair:
        await swarm.limiter("api", 2, per=60).acquire(timeout=5)
    with pytest.raises(LockTimeout):
        await one.limiter("api", 2, per=60).acquire(timeout=0.05)


async def test_the_past_reaches_back_as_far_as_the_log_tells(server):
    name = next(NAMES)
    small = SwarmConfig(limits=Limits(log_commits=32))
    async with Swarm(name, server.url) as one:
        old = await one.state.set("shared.old", 1)
        first = await one.state.set("shared.n", 1)
        await one.state.set("shared.n", 2)
        async with Swarm(name, server.url) as other:
            told = await other.state.history("shared.n")
            assert [change.value for change in told][-2:] == [1, 2]
            assert await other.state.at(first.version).get("shared.n") == 1
            assert await other.state.at(old.version).get("shared.n", "no") == "no"
        for n in range(40):
            late = await one.state.set("shared.n", n)
        changed = await one.state.set("shared.old", 2)
        async with Swarm(name, server.url, config=small) as other:
            assert await other.state.at(changed.version).get("shared.old") == 2
            with pytest.raises(Compacted):  # what stood there, the log does not tell
                await other.state.at(late.version).get("shared.old")
        assert await one.state.at(late.version).get("shared.old") == 1


async def test_a_policy_holds_in_every_process(server):
    name = next(NAMES)

    class Meddler(Agent):
        async def meddle(self) -> None:
            await self.swarm.state.set("global.config.x", 1)

    async with Swarm(name, server.url, policy=Policy.strict()) as swarm:
        ref = await swarm.spawn(Meddler, role="pulse")
        with pytest.raises(AccessDenied):
            await ref.ask(Meddler.meddle)


async def test_a_snapshot_is_kept_on_the_server_and_any_process_restores_it(server):
    name = next(NAMES)
    async with Swarm(name, server.url) as one, Swarm(name, server.url) as other:
        await one.state.set("shared.n", 1)
        snapshot = await one.snapshots.create("before")
        await other.state.set("shared.n", 2)
        await other.state.set("shared.m", 2)
        assert [s.id for s in await other.snapshots.list()] == [snapshot.id]
        await other.snapshots.restore(snapshot.id)
        assert await one.state.get("shared") == {"n": 1}
        assert await other.snapshots.prune(keep=0) == 1
        assert await one.snapshots.list() == []
        async with Swarm(next(NAMES), server.url, restore=snapshot) as new:
            assert await new.state.get("shared.n") == 1
        with pytest.raises(ValueError, match="begins a new store"):
            await Swarm.open(name, server.url, restore=snapshot)


class Author(Agent):
    async def draft(self, topic: str) -> str:
        return f"on {topic}"

    async def polish(self, text: str) -> str:
        return f"{text}."


async def test_a_pipeline_that_one_process_began_is_told_to_the_other(pair):
    one, other = pair
    flow = Pipeline(
        "content",
        [Stage("draft", Author.draft), Stage("polish", Author.polish, after=["draft"])],
    )
    await one.spawn(Author)
    run = await one.pipelines.start(flow, "bees", id="content-1")
    assert await run.result() == "on bees."
    seen = await other.state.get("pipelines.content-1")
    assert seen is not None


async def test_a_schedule_makes_one_task_for_each_time_in_any_number_of_processes(
    pair,
):
    one, other = pair
    for swarm in pair:
        await swarm.tasks.schedule("tick", "tick", {}, every=0.3)
    async with asyncio.timeout(20):
        while len(one.tasks.find(kind="tick")) < 4:
            await asyncio.sleep(0.05)
    times = [task.run_at for task in other.tasks.find(kind="tick")]
    assert len(set(times)) == len(times)


async def test_checkpoints_of_a_task_are_found_by_the_process_that_goes_on(pair):
    one, other = pair
    task = await one.tasks.submit("long", {})
    async with one.tasks.claim("long", timeout=10) as claim:
        await one.checkpoints.save({"step": 3}, "after outline", task=claim)
        await claim.release()
    async with other.tasks.claim("long", timeout=10) as claim:
        saved = await other.checkpoints.latest(task=claim)
        assert saved is not None
        assert saved.state == {"step": 3}
        await claim.complete("done")
    assert await task.result(timeout=10) == "done"


async def test_a_pending_task_is_explained_by_the_workers_of_all_processes(pair):
    one, other = pair

    class Slow(Agent):
        @serves("slow")
        async def work(self, n: int) -> None:
            await asyncio.get_running_loop().create_future()

    running = await other.tasks.submit("slow", {"n": 1})
    await one.spawn(Slow, name="slow")
    while (await running.record()).assignee is None:
        await asyncio.sleep(0.01)
    waiting = await other.tasks.submit("slow", {"n": 2})
    lonely = await other.tasks.submit("lonely")
    assert await waiting.explain() == "due: it is claimed next"
    assert await lonely.explain() == "nobody serves 'lonely'"
    await running.cancel()
    await waiting.cancel()


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_program_that_fails_with_an_open_swarm_ends(server, seconds):
    """`asyncio.run` cancels every task, those of the connection too."""

    async def main() -> None:
        swarm = await Swarm.open(next(NAMES), server.url, on_failure="log")
        await swarm.spawn(Greeter)
        await swarm.events.on(Thing, print, name="seen", delivery="at-least-once")
        await asyncio.sleep(seconds)
        raise RuntimeError("the program has failed")

    with pytest.raises(RuntimeError, match="the program has failed"):
        asyncio.run(main())

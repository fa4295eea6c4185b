"""A connection that is cut, a server that was replaced, a log that went on without us.

A proxy stands between each swarm and a real server.
"""

import asyncio
import itertools
import subprocess
from contextlib import suppress

import pytest
import redis.asyncio

from swarm import (
    ConflictError,
    Lagged,
    LeaseLost,
    OutcomeUnknown,
    StaleLease,
    StorageFailed,
    StorageUnsupported,
    Swarm,
    SwarmConfig,
    SystemAlert,
    event,
)
from swarm.ports import Limits
from tests.support.proxy import Proxy
from tests.support.redis_server import Server, find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)

NAMES = (f"faults-{n}" for n in itertools.count(1))


@event("faults.thing")
class Thing:
    n: int


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def is_commit(data: bytes) -> bool:
    return b"EVALSHA" in data


def once(test):
    """Return a condition that is true for the first request that `test` accepts."""
    is_done = False

    def condition(data: bytes) -> bool:
        nonlocal is_done
        if is_done or not test(data):
            return False
        is_done = True
        return True

    return condition


async def test_a_commit_whose_reply_was_lost_is_made_once(server):
    async with Proxy(server.port) as proxy, Swarm(next(NAMES), proxy.url) as swarm:
        proxy.drop_reply_if = once(is_commit)
        assert await swarm.state.increment("shared.n", 1) == 1
        assert proxy.cuts == 1
        assert await swarm.state.increment("shared.n", 1) == 2
        assert len(await swarm.state.history("shared.n")) == 2


async def test_a_step_of_a_task_whose_reply_was_lost_is_made_once(server):
    """J14, O9: submitting, claiming and completing are repeated by their id."""
    async with Proxy(server.port) as proxy, Swarm(next(NAMES), proxy.url) as swarm:
        proxy.drop_reply_if = once(is_commit)
        task = await swarm.tasks.submit("job", {"n": 1})
        proxy.drop_reply_if = once(is_commit)
        claim = await swarm.tasks.claim("job")
        assert (claim.task_id, claim.attempt) == (task.id, 1)
        proxy.drop_reply_if = once(is_commit)
        await claim.complete("done")
        assert proxy.cuts == 3
        record = await task.record()
        assert (record.status, record.result) == ("complete", "done")
        steps = [entry.step for entry in record.history]
        assert steps == ["claim", "complete"]
        assert len(swarm.tasks.find()) == 1


async def test_a_commit_that_never_reached_the_server_is_sent_again(server):
    async with Proxy(server.port) as proxy, Swarm(next(NAMES), proxy.url) as swarm:
        proxy.drop_request_if = once(is_commit)
        assert await swarm.state.increment("shared.n", 1) == 1
        assert proxy.cuts == 1


async def test_what_was_under_way_cannot_arrive_after_its_caller_heard_it_failed(
    server,
):
    name = next(NAMES)
    async with (
        Proxy(server.port) as proxy,
        Swarm(name, proxy.url) as one,
        Swarm(name, server.url) as other,
    ):
        is_held = once(is_commit)

        def hold(data: bytes) -> bool:
            if is_held(data):
                proxy.faults.is_open = False
                return True
            return False

        proxy.hold_if = hold
        creating = asyncio.ensure_future(one.state.set("shared.n", 1, if_absent=True))
        while not proxy.held:
            await asyncio.sleep(0.001)
        await other.state.set("shared.n", 2)
        proxy.faults.is_open = True
        with pytest.raises(ConflictError):
            await creating
        await other.state.delete("shared.n")
        await proxy.deliver_held()  # now its condition would hold
        assert await other.state.get("shared.n", "absent") == "absent"


async def test_an_outage_that_is_too_long_leaves_the_outcome_unknown(
    server, monkeypatch
):
    monkeypatch.setattr("swarm.storage.redis._wire._PATIENCE", 0.3)
    name = next(NAMES)
    async with Proxy(server.port) as proxy, Swarm(name, proxy.url) as swarm:

        def lose(data: bytes) -> bool:
            if is_commit(data):
                proxy.faults.is_open = False
            return is_commit(data)

        proxy.drop_reply_if = lose
        with pytest.raises(OutcomeUnknown, match="may have been made or not"):
            await swarm.state.set("shared.n", 1)
        with pytest.raises(StorageFailed, match="redis-server") as caught:
            await swarm.state.set("shared.n", 2)
        assert not isinstance(caught.value, OutcomeUnknown)
        proxy.drop_reply_if = lambda data: False
        proxy.faults.is_open = True
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await swarm.state.get("shared.n") == 1
                    break
                except StorageFailed:
                    await asyncio.sleep(0.05)
        await swarm.state.set("shared.n", 3)


async def test_a_silent_connection_is_given_up_and_made_again(server, monkeypatch):
    monkeypatch.setattr("swarm.storage.redis._wire._LOOK", 0.05)
    async with Proxy(server.port) as proxy, Swarm(next(NAMES), proxy.url) as swarm:
        await swarm.state.set("shared.n", 1)
        proxy.faults.is_silent = True
        writing = asyncio.ensure_future(swarm.state.set("shared.n", 2))
        await asyncio.sleep(0.2)
        proxy.faults.is_silent = False
        async with asyncio.timeout(20):
            await writing
        assert await swarm.state.get("shared.n") == 2


SMALL = SwarmConfig(limits=Limits(log_commits=64, held_commits=64))


async def test_a_process_that_missed_a_part_of_the_log_loads_the_tree_again(server):
    name = next(NAMES)
    async with (
        Proxy(server.port) as proxy,
        Swarm(name, server.url, config=SMALL) as one,
        Swarm(name, proxy.url, config=SMALL) as other,
    ):
        await one.state.set("shared.gone", 1)
        await one.state.set("shared.kept", 1)
        seen: list[int] = []
        heard = asyncio.Event()

        async def handle(ev) -> None:
            seen.append(ev.payload.n)
            heard.set()

        await other.events.on(Thing, handle)
        lease = await one.lock("x").acquire(ttl=60)
        waiting = asyncio.ensure_future(other.lock("x").acquire(timeout=20))
        async with other.state.watch("shared.n") as changes:
            await asyncio.sleep(0.1)
            proxy.faults.is_open = False
            proxy.cut()
            await one.state.delete("shared.gone")
            for n in range(400):
                await one.state.set("shared.n", n)
            await lease.release()
            await one.events.publish(Thing(7))
            proxy.faults.is_open = True
            assert await other.state.get("shared.n") == 399
            with pytest.raises(Lagged):
                async for _ in changes:
                    pass
        assert await other.state.get("shared.gone", "absent") == "absent"
        assert await other.state.get("shared.kept") == 1
        async with asyncio.timeout(20):
            await (await waiting).release()
            await heard.wait()
        assert seen == [7]
        assert await other.state.increment("shared.n", 1) == 400
        assert await one.state.get("shared.n") == 400


async def test_every_subscription_is_told_that_its_process_missed_events(server):
    """H5, H7: a stream raises `Lagged`; handlers go on, and count it."""
    name = next(NAMES)
    async with (
        Proxy(server.port) as proxy,
        Swarm(name, server.url, config=SMALL) as one,
        Swarm(name, proxy.url, config=SMALL) as other,
    ):
        seen: list[int] = []
        alerts: list[SystemAlert] = []
        told = asyncio.Event()

        async def handle(ev) -> None:
            seen.append(ev.payload.n)

        async def alert(ev) -> None:
            alerts.append(ev.payload)
            told.set()

        named = await other.events.on(Thing, handle, name="named")
        plain = await other.events.on(Thing, lambda ev: None)
        await other.events.on(SystemAlert, alert, where=lambda e: e.payload.subject)
        other.events.query()
        async with other.events.subscribe(Thing) as stream:
            proxy.faults.is_open = False
            proxy.cut()
            for n in range(400):
                await one.events.publish(Thing(n))
            proxy.faults.is_open = True
            async with asyncio.timeout(20):
                await told.wait()
                with pytest.raises(Lagged, match="the log now starts at"):
                    async for _ in stream:
                        pass
                while seen[-1:] != [399]:
                    await asyncio.sleep(0.01)
        assert seen == list(range(seen[0], 400))
        assert named.stats.lost == plain.stats.lost == 1
        kinds = [(a.kind, a.subject) for a in alerts]
        assert ("events-lost", "every subscription") in kinds
        assert other.events.query(Thing)[-1].payload.n == 399


async def test_the_end_of_the_server_s_memory_is_told_and_nothing_counts_on_it(
    tmp_path,
):
    server = Server(tmp_path)
    server.start()
    try:
        async with Swarm("lost", server.url) as one, Swarm("lost", server.url) as other:
            alerts = []
            told = asyncio.Event()

            async def hear(ev) -> None:
                alerts.append(ev.payload.kind)
                told.set()

            await other.events.on(SystemAlert, hear)
            named = await other.events.on(Thing, lambda ev: None, name="named")
            lease = await one.lock("x").acquire(ttl=60)
            version = (await one.state.set("shared.n", 1)).version
            await one.events.publish(Thing(1))
            other.events.query()
            server.kill()
            server.start()
            with pytest.raises((StaleLease, LeaseLost)):
                await one.state.set("shared.report", 1, guard=lease)
            assert await other.state.get("shared.n", "absent") == "absent"
            async with asyncio.timeout(20):
                await told.wait()
            assert "commits-lost" in alerts
            assert [e.payload.n for e in other.events.query(Thing)] == []
            assert named.stats.lost == 0
            async with other.lock("x").acquire(timeout=10) as theirs:
                assert theirs.token > lease.token
                written = await other.state.set("shared.n", 2, guard=theirs)
            assert written.version > version
            assert await one.state.get("shared.n") == 2
    finally:
        server.stop()


@pytest.mark.parametrize("first", ["an event", "a write"])
async def test_a_server_that_was_emptied_is_noticed_by_whatever_comes_first(
    server, first
):
    """E5, G2: handlers go on, and no revision is given out twice."""
    name = next(NAMES)
    async with (
        redis.asyncio.Redis.from_url(server.url) as client,
        Swarm(name, server.url) as one,
        Swarm(name, server.url) as other,
    ):
        seen: list[int] = []
        alerts: list[str] = []
        await other.events.on(Thing, lambda ev: seen.append(ev.payload.n), name="n")
        await other.events.on(SystemAlert, lambda ev: alerts.append(ev.payload.kind))
        before = (await one.events.publish(Thing(0))).seq
        await one.state.set("shared.n", 1)
        async with asyncio.timeout(20):
            while seen != [0]:  # else it may be lost with the rest
                await asyncio.sleep(0.01)
        await client.flushall()
        if first == "a write":
            assert await one.state.increment("shared.n", 1) == 1
        after = (await one.events.publish(Thing(1))).seq
        assert after > before
        async with asyncio.timeout(20):
            while "commits-lost" not in alerts or seen[-1:] != [1]:
                await asyncio.sleep(0.01)
        await one.events.publish(Thing(2))
        async with asyncio.timeout(20):
            while seen != [0, 1, 2]:
                await asyncio.sleep(0.01)
        assert "subscription-taken-over" not in alerts
        assert await other.state.get("shared.n", 0) == (first == "a write")


async def test_a_body_that_holds_a_lock_is_cancelled_when_the_lock_was_lost(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        async with Swarm("lost", server.url) as swarm:
            with pytest.raises(LeaseLost):
                async with swarm.lock("x"):
                    server.kill()
                    server.start()
                    async with asyncio.timeout(20):
                        await asyncio.Event().wait()
    finally:
        server.stop()


async def test_durability_is_told_and_can_be_demanded(server, tmp_path):
    async with Swarm(next(NAMES), server.url) as swarm:
        assert "durability memory" in swarm.explain()
    with pytest.raises(StorageUnsupported, match="appendfsync always"):
        await Swarm.open(next(NAMES), f"{server.url}?durability=power")
    with pytest.raises(StorageUnsupported, match="the server decides"):
        await Swarm.open(next(NAMES), f"{server.url}?durability=process")
    with running(tmp_path, durable=True) as durable:
        async with Swarm("x", f"{durable.url}?durability=power") as swarm:
            assert "durability power" in swarm.explain()


async def test_a_server_that_takes_over_must_be_as_durable(tmp_path, monkeypatch):
    """Durability that was asked for is not lost by a failover."""
    monkeypatch.setattr("swarm.storage.redis._wire._PATIENCE", 0.3)
    with (
        running(tmp_path / "a", durable=True) as first,
        running(tmp_path / "b") as second,
    ):
        async with (
            redis.asyncio.Redis.from_url(second.url) as client,
            Proxy(first.port) as proxy,
            Swarm("moved", f"{proxy.url}?durability=power") as swarm,
        ):
            await swarm.state.set("shared.n", 1)
            proxy.lead_to(second.port)
            with pytest.raises(StorageFailed, match="appendfsync always"):
                await swarm.state.set("shared.n", 2)
            await client.config_set("appendonly", "yes")
            await client.config_set("appendfsync", "always")
            async with asyncio.timeout(20):
                while True:
                    with suppress(StorageFailed):
                        await swarm.state.set("shared.n", 3)
                        break
                    await asyncio.sleep(0.05)
            assert await swarm.state.get("shared.n") == 3


async def test_reading_the_replica_asks_nobody_and_sees_one_s_own_writes(server):
    name = next(NAMES)
    async with (
        Proxy(server.port) as proxy,
        Swarm(name, proxy.url, reads="replica") as one,
        Swarm(name, server.url) as other,
    ):
        for n in range(20):
            await one.state.set("shared.n", n)
            assert await one.state.get("shared.n") == n
        proxy.faults.is_silent = True
        await other.state.set("shared.n", 99)
        assert await one.state.get("shared.n") == 19
        proxy.faults.is_silent = False
        proxy.cut()
        async with asyncio.timeout(20):
            await one.state.wait_until("shared.n", lambda n: n == 99)
    with pytest.raises(ValueError, match="reads"):
        Swarm("x", reads="old")


async def test_a_replica_of_the_server_is_refused_and_waited_for(tmp_path):
    with running(tmp_path / "a") as server, running(tmp_path / "b") as standby:
        async with Swarm("moved", server.url) as swarm:
            await swarm.state.set("shared.n", 1)

        def command(*words: str) -> None:
            subprocess.run(
                ["redis-cli", "-p", str(standby.port), *words],
                check=True,
                capture_output=True,
            )

        command("replicaof", "127.0.0.1", str(server.port))
        with pytest.raises(StorageFailed, match="replica"):
            await Swarm.open("moved", standby.url)
        command("replicaof", "no", "one")


async def test_a_holder_that_is_cut_off_stops_before_another_one_begins(server):
    """L12: it goes by its own clock while the server cannot be asked."""
    name, config = next(NAMES), SwarmConfig(lock_ttl=0.6)
    loop = asyncio.get_running_loop()
    async with Proxy(server.port) as proxy:
        cut_off = await Swarm.open(name, proxy.url, config=config)
        async with Swarm(name, server.url) as other:
            stopped = 0.0
            with pytest.raises(LeaseLost):
                async with cut_off.lock("x"):
                    await asyncio.sleep(0.8)  # it is renewed meanwhile
                    proxy.faults.is_silent = True
                    waiting = asyncio.ensure_future(
                        other.lock("x").acquire(ttl=5, timeout=10)
                    )
                    waiting.add_done_callback(lambda _: times.append(loop.time()))
                    times: list[float] = []
                    try:
                        await asyncio.sleep(10)
                    finally:
                        stopped = loop.time()
            await (await waiting).release()
            assert stopped < times[0]
            proxy.faults.is_silent = False
            proxy.cut()
            async with asyncio.timeout(20), cut_off.lock("x"):
                pass
        await cut_off.close()

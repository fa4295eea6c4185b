"""Agents in another process are found, asked and told as those of this one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import attrs
import pytest

from swarm import (
    Agent,
    AgentDied,
    AskTimeout,
    Interceptor,
    LimitExceeded,
    MailboxFull,
    NoSuchAgent,
    Ref,
    RemoteError,
    Status,
    Swarm,
    correlated,
)
from swarm.processes import RemoteRef, _answers
from swarm.testing import MemoryServer, explore
from tests.support.processes import (
    Color,
    Order,
    OutOfStock,
    Shop,
    pair,
    settle,
    swarms,
)
from tests.support.virtual_loop import virtual


async def remote(one, two, name="ada", **options):
    """Spawn an agent in the first process; return its ref in the second."""
    await one.spawn(Shop, name=name, **options)
    await settle()
    ref = two.agents[name]
    assert isinstance(ref, RemoteRef)
    return ref


@virtual
async def test_get_and_find_answer_over_all_processes():
    async with pair() as (_, one, two):
        ada = await remote(one, two, capabilities=["sell"], role="clerk")
        bo = await two.spawn(Shop, name="bo")
        assert two.agents.get("nobody") is None
        assert "ada" in two.agents
        assert "nobody" not in two.agents
        assert [ref.name for ref in two.agents] == ["bo", "ada"]
        assert len(two.agents) == 2
        assert two.agents.find(type=Shop) == [bo, ada]
        assert two.agents.find(type="shop", capability="sell") == [ada]
        assert two.agents.find(role="clerk", status="idle") == [ada]
        assert two.agents.find(status="paused") == []
        with pytest.raises(TypeError, match="a class of agents"):
            two.agents.find(type=int)
        assert two.agents.least_loaded(capability="sell") == ada
        assert two.agents.get("bo") == bo
        assert not isinstance(bo, RemoteRef)


@virtual
async def test_a_request_takes_both_ways_to_the_server():
    async with pair(delay=1.0) as (_, one, two):
        await one.spawn(Named, "shop", name="ada")
        await asyncio.sleep(10)
        began = asyncio.get_running_loop().time()
        await two.agents["ada"].ask(Named.name_of_swarm)
        assert asyncio.get_running_loop().time() - began >= 2


@virtual
async def test_swarms_of_two_names_on_one_server_are_apart():
    server, refs = MemoryServer(), {}
    async with AsyncExitStack() as stack:
        for name in ("bank", "shop"):
            one, two = Swarm(name, server), Swarm(name, server)
            await stack.enter_async_context(one)
            await stack.enter_async_context(two)
            await one.spawn(Named, name, name="ada")
            await settle()
            refs[name] = two.agents["ada"]
        for name, ref in refs.items():
            assert await ref.ask(Named.name_of_swarm) == name
    with pytest.raises(ValueError, match="delay is 0 seconds or more, not -1"):
        MemoryServer(delay=-1)


class Named(Agent):
    def __init__(self, swarm):
        self.swarm_name = swarm

    async def name_of_swarm(self):
        return self.swarm_name


@virtual
async def test_a_ref_of_another_process_tells_who_it_is():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        local = one.agents["ada"]
        assert ada.identity == local.identity
        assert ada != local
        assert local != ada
        assert ada == two.agents["ada"] == ada.within(3)
        assert hash(ada) == hash(two.agents["ada"])
        assert (ada.status, ada.load) == (Status.IDLE, 0)
        assert ada.heartbeat_age >= 0
        assert "in process p" in repr(ada)
        with pytest.raises(AttributeError, match="a Ref has no 'add'"):
            ada.add  # noqa: B018


@virtual
async def test_a_proxy_finds_the_class_among_several_of_one_name():
    namesakes = [type("Shop", (Agent,), {}) for _ in range(2)]
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        assert await ada.proxy.add(4) == 5
        with pytest.raises(AttributeError, match="no method 'sell'"):
            ada.proxy.sell  # noqa: B018 - the look is what fails
    assert namesakes


@virtual
async def test_arguments_and_results_are_typed_by_annotations():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        assert await ada.ask(Shop.add, 2) == 3
        assert await ada.ask(Shop.add, 2, b=5) == 7
        order = Order(1, Color.RED, datetime(2026, 1, 2, tzinfo=UTC))
        assert await ada.ask(Shop.order, order) == Order(2, order.color, order.at)
        assert await ada.ask(Shop.many, 1, 2, x=0.5) == (3, {"x": 0.5})
        assert await ada.ask(Shop.untyped, {"a": [1, None]}) == {"a": [1, None]}
        assert await ada.proxy.add(4) == 5


@virtual
async def test_what_cannot_travel_is_a_type_error_that_names_it():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        with pytest.raises(TypeError, match=r"'value' of Shop\.untyped .* agent 'ada'"):
            await ada.ask(Shop.untyped, object())
        with pytest.raises(TypeError, match=r"Shop\.add: .*missing"):
            await ada.ask(Shop.add)
        with pytest.raises(TypeError, match=r"result of Shop\.give_odd .* 'ada'"):
            await ada.ask(Shop.give_odd)
        with pytest.raises(TypeError, match=r"Shop\.add of .* do not fit: a: int"):
            await ada.ask(Shop.add, "three")
        with pytest.raises(TypeError, match="use stream"):
            await ada.ask(Shop.count, 3)
        with pytest.raises(TypeError, match="use ask"):
            ada.stream(Shop.add, 3)
        with pytest.raises(TypeError, match="not a method"):
            await ada.ask("add", 3)
        with pytest.raises(TypeError, match="is not public"):
            await ada.ask(Shop.started)
        with pytest.raises(AttributeError):
            ada.proxy._hidden  # noqa: B018
        assert await ada.ask(Shop.add, 1) == 2


@virtual
async def test_an_exception_is_of_its_own_class_where_both_sides_know_it():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        with pytest.raises(OutOfStock, match="tea: 3 left") as caught:
            await ada.ask(Shop.fail, "tea")
        assert (caught.value.item, caught.value.left) == ("tea", 3)
        notes = "\n".join(caught.value.__notes__)
        assert "in Shop.fail of agent 'ada'" in notes
        assert "in process p" in notes
        with pytest.raises(RemoteError, match="Unpicklable") as odd:
            await ada.ask(Shop.fail_oddly)
        assert odd.value.type == "tests.support.processes.Unpicklable"


class Odd(Agent):
    async def fail(self, how: str) -> None:
        nested: list[object] = []
        for _ in range(5_000 if how == "deep" else 300):
            nested = [nested]
        error = ValueError({"text": "\udcff", "key": {"\udcff": 1}}.get(how, nested))
        if how == "note":
            error = ValueError("x")
            error.add_note("\udcff")
        raise error


@virtual
async def test_an_exception_that_json_cannot_hold_is_an_answer_as_well():
    async with pair() as (_, one, two):
        await one.spawn(Odd, name="odd")
        await settle()
        for how in ("text", "key", "deep", "nested"):
            with pytest.raises(RemoteError, match="ValueError"):
                await two.agents["odd"].ask(Odd.fail, how)
        with pytest.raises(ValueError, match="x") as caught:
            await two.agents["odd"].ask(Odd.fail, "note")
        assert caught.value.__notes__[0] == "\\udcff"


class Big(Agent):
    async def echo(self, size: int, text: str = "") -> str:
        return "x" * size + text

    async def fail(self, size: int) -> None:
        error = KeyError("x" * size)
        error.add_note("n" * size)
        raise error

    async def items(self, size: int) -> AsyncIterator[str]:
        yield "x" * size


@virtual
async def test_what_is_too_large_for_a_message_is_said_at_once_with_its_size():
    async with pair() as (_, one, two):
        await one.spawn(Big, name="big")
        await settle()
        big, size = two.agents["big"], 1_100_000
        with pytest.raises(LimitExceeded, match=r"arguments of Big\.echo.*11000"):
            await big.ask(Big.echo, 0, "y" * size)
        with pytest.raises(LimitExceeded, match=r"result of Big\.echo.*send its path"):
            await big.ask(Big.echo, size)
        with pytest.raises(LimitExceeded, match=r"result of Big\.items"):
            async with big.stream(Big.items, size) as items:
                await anext(items)
        with pytest.raises(RemoteError, match="KeyError") as caught:
            await big.ask(Big.fail, size)
        assert len(str(caught.value)) < 20_000
        assert sum(map(len, caught.value.__notes__)) < 20_000
        assert len(await big.ask(Big.echo, 1_000_000)) == 1_000_000


@virtual
async def test_an_answer_that_cannot_be_sent_is_an_error_at_once(monkeypatch):
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        monkeypatch.setattr(
            "swarm.processes._answers.Signature.encode_result",
            lambda self, agent, value, codec: {1: value},
        )
        with pytest.raises(TypeError, match="str"):
            await ada.ask(Shop.add, 1)


@virtual
async def test_an_agent_that_has_ended_is_no_such_agent_also_under_a_new_one():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        await one.agents["ada"].stop()
        with pytest.raises(NoSuchAgent):
            await ada.ask(Shop.add, 1)
        await settle()
        assert two.agents.get("ada") is None
        await asyncio.sleep(1)
        await one.spawn(Shop, name="ada")
        await settle()
        for request in (ada.ask(Shop.add, 1), ada.tell(Shop.note, "x"), ada.stop()):
            with pytest.raises(NoSuchAgent):
                await request
        assert ada.status is Status.OFFLINE
        assert await two.agents["ada"].ask(Shop.add, 1) == 2


@virtual
async def test_cancelling_the_asker_reaches_the_turn():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        asking = asyncio.ensure_future(ada.ask(Shop.hang))
        await settle()
        assert ada.load == 1
        asking.cancel()
        await asyncio.wait([asking])
        await settle()
        assert await one.agents["ada"].ask(Shop.seen) == ["begun", "cancelled"]
        assert ada.load == 0


@virtual
async def test_a_deadline_travels():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        with pytest.raises(AskTimeout) as caught:
            await ada.within(2).ask(Shop.hang)
        assert caught.value.started
        await settle()
        assert await ada.ask(Shop.seen) == ["begun", "cancelled"]
        with pytest.raises(AskTimeout):
            await ada.within(0).ask(Shop.add, 1)
        bo = await two.spawn(Shop, name="bo")
        with pytest.raises(AskTimeout):
            await bo.within(1).ask(Shop.hang_at, "ada")
        await settle()
        assert (await ada.ask(Shop.seen))[2:] == ["begun", "cancelled"]


@virtual
async def test_a_process_serves_a_bounded_number_of_requests_of_others(monkeypatch):
    """Beyond it a request is refused at once, and nothing of it is done."""
    monkeypatch.setattr(_answers, "MOST", 3)
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        waiting = [asyncio.ensure_future(ada.ask(Shop.wait)) for _ in range(3)]
        await settle()
        for request in (ada.ask, ada.tell):
            with pytest.raises(MailboxFull, match="3 requests of others"):
                await request(Shop.note, "late")
        await one.agents["ada"].ask(Shop.open)
        await asyncio.gather(*waiting)
        assert await ada.ask(Shop.seen) == []


@virtual
async def test_requests_go_back_and_forth():
    async with pair() as (_, one, two):
        await one.spawn(Shop, name="ada")
        await two.spawn(Shop, name="bo")
        await settle()
        assert await two.agents["ada"].ask(Shop.ask_other, "bo", 1) == 2
        assert await one.agents["bo"].ask(Shop.ask_other, "ada", 2) == 3


@virtual
async def test_correlation_travels():
    async with pair() as (_, one, two):
        seen = []

        class Noter(Shop):
            async def note(self, text: str) -> None:
                await self.shared.set("note", text)

        await one.spawn(Noter, name="ada")
        await settle()
        async with one.events.subscribe("state.*") as events:
            with correlated("order-1"):
                await two.agents["ada"].ask(Shop.note, "x")
            async for each in events:
                if "note" in str(each.payload):
                    seen.append(each.correlation_id)
                    break
        assert seen == ["order-1"]


class Tracing(Interceptor):
    def __init__(self):
        self.seen = []

    async def ask(self, call, proceed):
        self.seen.append(("ask", call.agent.agent_id, call.method, call.args))
        changed = attrs.evolve(call, args=(call.args[0] + 1,), trace=TRACE)
        return await proceed(changed) * 10

    async def tell(self, call, proceed):
        self.seen.append(("tell", call.method))
        await proceed(call)

    async def turn(self, call, proceed):
        self.seen.append(("turn", call.method, call.trace))
        return await proceed(call)


TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


@virtual
async def test_interceptors_run_on_the_side_that_they_belong_to():
    server, ours, theirs = MemoryServer(), Tracing(), Tracing()
    (one,) = swarms(server, 1, interceptors=[theirs])
    (two,) = swarms(server, 1, interceptors=[ours])
    async with one, two:
        ada = await remote(one, two)
        assert await ada.ask(Shop.add, 1) == 30
        await ada.tell(Shop.note, "x")
        ada.tell_nowait(Shop.note, "y")
        await settle()
    assert ours.seen == [
        ("ask", "ada", "Shop.add", (1,)),
        ("tell", "Shop.note"),
        ("tell", "Shop.note"),
    ]
    assert theirs.seen[0] == ("turn", "Shop.add", TRACE)
    assert [kind for kind, *_ in theirs.seen] == ["turn"] * 3


@virtual
async def test_asks_under_way_die_with_the_process_as_soon_as_it_is_gone():
    async with pair() as (server, one, two):
        ada = await remote(one, two)
        asking = asyncio.ensure_future(ada.within(None).ask(Shop.hang))
        ending = asyncio.ensure_future(ada.ended())
        telling = asyncio.ensure_future(ada.tell(Shop.note, "x"))
        await settle()
        began = asyncio.get_running_loop().time()
        server.cut_off(0)
        with pytest.raises(AgentDied, match="died with its process"):
            await asking
        assert asyncio.get_running_loop().time() - began < 9.5
        assert await ending == "process died"
        await telling  # it was taken before
        with pytest.raises(NoSuchAgent):
            await ada.ask(Shop.add, 1)
        assert two.agents.get("ada") is None


@virtual
async def test_requests_of_a_process_that_was_taken_for_dead_fail_too():
    async with pair() as (server, one, two):
        ada = await remote(one, two)
        asking = asyncio.ensure_future(ada.within(None).ask(Shop.hang))
        await settle()
        server.cut_off(1)
        await asyncio.sleep(9.5)
        await settle()
        assert await one.agents["ada"].ask(Shop.seen) == ["begun", "cancelled"]
        server.reconnect(1)
        with pytest.raises(AgentDied, match="taken for dead"):
            await asking
        await settle()
        assert await two.agents["ada"].ask(Shop.add, 1) == 2  # it has come back


@virtual
async def test_told_requests_keep_their_order():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        for n in range(20):
            if n % 2:
                ada.tell_nowait(Shop.note, str(n))
            else:
                await ada.tell(Shop.note, str(n))
        assert await ada.ask(Shop.seen) == [str(n) for n in range(20)]


@virtual
async def test_tell_waits_for_room_and_can_be_cancelled_there():
    async with pair() as (_, one, two):
        ada = await remote(one, two, mailbox=1)
        asking = asyncio.ensure_future(ada.ask(Shop.wait))
        await settle()
        await ada.tell(Shop.note, "first")
        second = asyncio.ensure_future(ada.tell(Shop.note, "second"))
        third = asyncio.ensure_future(ada.tell(Shop.note, "third"))
        await settle()
        assert not second.done()
        second.cancel()
        await asyncio.wait([second])
        with pytest.raises(AskTimeout, match="no room"):
            await ada.within(1).tell(Shop.note, "late")
        await ada.ask(Shop.open)
        await asking
        await third
        assert await ada.ask(Shop.seen) == ["first", "third"]


@virtual
async def test_tell_nowait_is_bounded_and_logs_what_is_lost(caplog):
    async with pair() as (server, one, two):
        ada = await remote(one, two)
        server.cut_off(0)
        for n in range(1_024):
            ada.tell_nowait(Shop.note, str(n))
        with pytest.raises(MailboxFull, match="1024 requests"):
            ada.tell_nowait(Shop.note, "more")
        server.reconnect(0)
        await settle(3000)
        assert len(await ada.ask(Shop.seen)) == 1_024
        await one.agents["ada"].stop()
        with pytest.raises(NoSuchAgent):
            ada.tell_nowait(Shop.note, "x")
        bo = await remote(one, two, "bo", mailbox=1)
        hanging = asyncio.ensure_future(bo.ask(Shop.hang))
        await settle()
        with caplog.at_level(logging.WARNING, "swarm.processes"):
            for n in range(3):
                bo.tell_nowait(Shop.note, str(n))
            await asyncio.sleep(40)
        assert caplog.text.count("told to agent 'bo' is lost") == 2
        await asyncio.wait([hanging])


@virtual
async def test_stop_kill_pause_and_resume_reach_another_process():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        await ada.pause()
        await settle()
        assert ada.status is Status.PAUSED
        asking = asyncio.ensure_future(ada.ask(Shop.add, 1))
        await settle()
        assert not asking.done()
        await ada.resume()
        assert await asking == 2
        ending = asyncio.ensure_future(ada.ended())
        await settle()
        await ada.stop()
        assert await ending == "stopped"
        bo = await remote(one, two, "bo")
        hanging = asyncio.ensure_future(bo.ask(Shop.hang))
        await settle()
        await bo.kill()
        with pytest.raises(AgentDied):
            await hanging


@virtual
async def test_asks_fail_with_agent_died_when_the_other_swarm_closes():
    server = MemoryServer()
    one, two = swarms(server)
    async with two:
        async with one:
            ada = await remote(one, two)
            asking = asyncio.ensure_future(ada.within(None).ask(Shop.hang))
            await settle()
            one._coordinator.ask_end(drain=False)
        with pytest.raises(AgentDied):
            await asking
        with pytest.raises(NoSuchAgent):
            await ada.ask(Shop.add, 1)


@virtual
async def test_a_cancellation_at_any_turn_leaves_nothing_behind():
    for turns in range(40):
        async with pair() as (_, one, two):
            ada = await remote(one, two)
            for method in (Shop.hang, Shop.add):
                args = (1,) if method is Shop.add else ()
                asking = asyncio.ensure_future(ada.ask(method, *args))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait([asking])
                await settle()
            for swarm in (one, two):
                assert len(swarm._coordinator.graph) == 0
            assert ada.load == 0
            log = await one.agents["ada"].ask(Shop.seen)
            assert log in ([], ["begun", "cancelled"])


@virtual
async def test_a_message_that_arrives_twice_is_taken_once():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        inbox = next(i for i in server_inboxes(one, two) if i)
        receive, seen = inbox._receive, []

        def twice(line):
            seen.append(line)
            receive(line)
            receive(line)

        inbox._receive = twice
        await ada.tell(Shop.note, "x")
        assert await ada.ask(Shop.seen) == ["x"]
        assert seen


def server_inboxes(one, two):
    return [one._coordinator.kernel.unfenced._inboxes]


def test_asks_between_processes_end_the_same_under_every_schedule():
    async def program() -> None:
        server = MemoryServer()
        one, two = swarms(server)
        async with one, two:
            await one.spawn(Shop, name="ada")
            ada: Ref[Shop] | None = None
            while ada is None:
                await asyncio.sleep(0)
                ada = two.agents.get("ada")
            async with asyncio.TaskGroup() as group:
                asks = [group.create_task(ada.ask(Shop.add, n)) for n in range(3)]
                group.create_task(ada.tell(Shop.note, "x"))
                hanging = group.create_task(ada.ask(Shop.hang))
                await asyncio.sleep(1)
                hanging.cancel()
            assert [ask.result() for ask in asks] == [1, 2, 3]
            log = await ada.ask(Shop.seen)
            assert [each for each in log if each == "x"] == ["x"]

    explore(program, schedules=15).check()

"""What a newcomer types first works, or the error names the right spelling."""

import asyncio
import contextlib
import copy
import gc
import itertools
import logging
import pickle
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import pytest

from swarm import (
    AccessDenied,
    Agent,
    AskTimeout,
    Closed,
    ConfigMismatch,
    MailboxFull,
    Policy,
    Ref,
    Restart,
    Swarm,
    WrongLoop,
    interleave,
)
from swarm.agents._worker import INLINE
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual


class Learner(Agent):
    async def ok(self, depth: int = 1) -> int:
        return depth


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s, r: s.spawn(Learner()), r"spawn\(Learner, \.\.\.\)"),
        (lambda s, r: s.spawn("Learner"), "a class or a function.*not 'Learner'"),
        (lambda s, r: s.agents.find(capability=["x"]), "a capability is text"),
        (lambda s, r: s.agents.find(role=Learner), "a role is text"),
        (lambda s, r: s.agents.get(r), "the name of an agent is text"),
        (lambda s, r: r.ask("ok"), r"ask\(Learner\.ok.*ref\.proxy\.ok"),
        (lambda s, r: r.ask(Learner().ok), r"unbound.*Learner\.ok"),
        (lambda s, r: r.ok(), r"ref\.ask\(Learner\.ok.*ref\.proxy\.ok"),
        (lambda s, r: s.agents.find("research"), r"capability="),
        (lambda s, r: s.spawn(Learner, capabilities="x"), "list"),
        (lambda s, r: s.spawn(Learner, shutdown=0), "shutdown is from 0.000001"),
        (lambda s, r: s.spawn(Learner, shutdown="5"), "shutdown is a number"),
        (lambda s, r: s.spawn(Learner, mailbox=True), "mailbox"),
        (lambda s, r: s.agents.find(status="busyy"), "a status is one of.*busy,"),
        (lambda s, r: s.state.wait_until("a", 5), "lambda value"),
    ],
)
@virtual
async def test_a_wrong_spelling_is_told_the_right_one(call, words):
    """One sentence, with the spelling that works."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Learner)
        with pytest.raises((TypeError, AttributeError, ValueError), match=words):
            await call(swarm, ref)


@virtual
async def test_a_time_out_given_to_ask_is_told_where_it_belongs():
    """`ask(L.ok, timeout=1)` reads as an argument of the method."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Learner)
        with pytest.raises(TypeError) as caught:
            await ref.ask(Learner.ok, timeout=1)
        assert any("within(seconds)" in note for note in caught.value.__notes__)


@virtual
async def test_reserved_words_are_refused_at_spawn():
    """`run` with parameters, `name` assigned or defined: the error names the word."""

    class Runner(Agent):
        async def run(self, what: str) -> None: ...

    class Named(Agent):
        def __init__(self) -> None:
            self.name = "ada"

    class Stateful(Agent):
        def __init__(self) -> None:
            self.state = {}

    class Hiding(Agent):
        log = None

    async with Swarm() as swarm:
        for cls, word in ((Runner, "run"), (Named, "name"), (Stateful, "state")):
            with pytest.raises(TypeError, match=word):
                await swarm.spawn(cls)
        with pytest.raises(TypeError, match=r"Hiding\.log hides"):
            await swarm.spawn(Hiding)
        assert len(swarm.agents) == 0


def _define() -> type[Agent]:
    class Greeter(Agent):
        async def greet(self) -> str:
            return "hello"

    return Greeter


@virtual
async def test_a_class_that_was_defined_again_is_told_of():
    """A notebook cell that ran twice."""
    old, new = _define(), _define()
    async with Swarm() as swarm:
        ref = await swarm.spawn(old)
        with pytest.raises(TypeError, match="defined again"):
            await ref.ask(new.greet)
        assert await ref.proxy.greet() == "hello"


@virtual
async def test_a_time_out_says_how_long():
    """Seconds, and which agent did not answer."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, name="ada")
        with pytest.raises(AskTimeout, match=r"Worker\.slow of agent 'ada'.* 2 s"):
            await ref.within(2).ask(Worker.slow, "x", 10)


@virtual
async def test_a_copy_of_a_ref_or_proxy_is_the_same_object():
    """They are immutable; they cannot be pickled."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Learner, name="ada")
        for each in (ref, ref.proxy):
            assert copy.copy(each) is each
            assert copy.deepcopy([each])[0] is each
            with pytest.raises(TypeError, match="name"):
                pickle.dumps(each)
        assert repr(ref) == "<Ref 'ada' (learner) idle>"
        assert "ada" in repr(ref.proxy)
        assert repr(swarm.agents) == "<Registry of 1 agent>"


@virtual
async def test_the_logger_names_its_agent(caplog):
    """In the message, whatever the handler's format is."""

    class Talker(Agent):
        async def talk(self) -> None:
            self.log.warning("hello %s", "world", extra={"more": 1})

    async with Swarm() as swarm:
        ref = await swarm.spawn(Talker, name="ada")
        await ref.ask(Talker.talk)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage() == "ada: hello world"
    assert (record.agent, record.more) == ("ada", 1)


T = TypeVar("T")


class Box(Agent, Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    async def get(self) -> T:
        return self.value


@virtual
async def test_a_generic_agent_is_spawned_and_asked_with_its_type():
    """`Box[int]` is what pyright wants; `Box` works as well."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Box[int], 7)
        assert await ref.ask(Box[int].get) == 7
        assert await ref.ask(Box.get) == 7


# --- groups, loops, rights -----------------------------------------------------------


@virtual
async def test_a_group_spawns_under_the_same_checks_as_a_swarm():
    """Closed, draining, another loop."""
    swarm = await Swarm.open()
    team = swarm.group("team")
    found: list[type] = []

    def elsewhere() -> None:
        async def spawn() -> None:
            try:
                await team.spawn(Learner)
            except WrongLoop as error:
                found.append(type(error))

        asyncio.run(spawn())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [WrongLoop]
    await swarm.close()
    with pytest.raises(Closed):
        await team.spawn(Learner)


@virtual
async def test_a_stream_read_in_another_loop_sends_nothing():
    """The error comes before the request."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        stream = ref.stream(Worker.count, 3)
        found: list[BaseException] = []

        def elsewhere() -> None:
            async def read() -> None:
                try:
                    await anext(stream)
                except WrongLoop as error:
                    found.append(error)

            asyncio.run(read())

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(found) == 1
        assert ref.load == 0
        assert ref._cell.agent.diary == []


@virtual
async def test_a_group_without_members_is_forgotten():
    """G13: its name can be used for another configuration."""
    async with Swarm() as swarm:
        team = swarm.group("team", strategy="one_for_all")
        inner = team.group("inner")
        ref = await inner.spawn(Worker)
        assert [r.name for r in team.members] == [ref.name]
        with pytest.raises(ConfigMismatch):
            swarm.group("team", strategy="one_for_one")
        await ref.stop()
        assert team.members == ()
        del team, inner, ref
        gc.collect()
        assert swarm.group("team", strategy="one_for_one").members == ()


@virtual
async def test_an_agent_may_not_kill_or_replace_the_agents_of_others():
    """The default policy; its own agents it may."""

    class Boss(Worker):
        async def hire(self) -> Ref[Worker]:
            return await self.swarm.spawn(Worker, name="mine")

        async def fire(self, ref: Ref[Worker]) -> None:
            await ref.kill()

        async def replace(self, name: str) -> None:
            await self.swarm.spawn(Worker, name=name, replace=True)

    async with Swarm() as swarm:
        boss = await swarm.spawn(Boss)
        other = await swarm.spawn(Worker, name="other")
        mine = await boss.ask(Boss.hire)
        with pytest.raises(AccessDenied):
            await boss.ask(Boss.fire, other)
        with pytest.raises(AccessDenied):
            await boss.ask(Boss.replace, "other")
        assert other.status == "idle"
        await boss.ask(Boss.replace, "mine")
        assert mine.status == "offline"
        await boss.ask(Boss.fire, swarm.agents["mine"])
        await other.kill()


@virtual
async def test_asking_an_agent_of_others_to_stop_or_pause_needs_a_right_as_well():
    """By default agents have it; under the strict policy only the conductor."""

    class Boss(Worker):
        async def act(self, ref: Ref[Worker], verb: str) -> None:
            await getattr(ref, verb)()

    for policy, role, may in (
        (Policy.default(), None, True),
        (Policy.strict(), "guardian", False),
        (Policy.strict(), "conductor", True),
    ):
        async with Swarm(policy=policy) as swarm:
            boss = await swarm.spawn(Boss, role=role)
            other = await swarm.spawn(Worker, name="other")
            for verb in ("pause", "resume", "stop"):
                if may:
                    await boss.ask(Boss.act, other, verb)
                    continue
                with pytest.raises(AccessDenied, match="spawn"):
                    await boss.ask(Boss.act, other, verb)
            assert other.status == ("offline" if may else "idle")


# --- room, budget, memory ------------------------------------------------------------


class Crowded(Worker):
    @interleave
    async def ask_back(self) -> object:
        return await self.ref.ask(Worker.echo, "back")


@virtual
async def test_interleaved_turns_leave_the_serial_ones_their_room():
    """As many as the mailbox holds may ask their own agent."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Crowded, mailbox=16)
        asks = [ref.ask(Crowded.ask_back) for _ in range(48)]
        assert await asyncio.gather(*asks) == ["back"] * 48
        assert ref.load == 0


@virtual
async def test_interleaved_requests_are_bounded_as_well():
    """Q8: by the same number."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, mailbox=2)
        asks = [asyncio.ensure_future(ref.ask(Worker.wait_aside, n)) for n in "abc"]
        await turns(3)
        assert len(swarm.agents.info(ref.name).aside) == 2
        with pytest.raises(MailboxFull):
            ref.tell_nowait(Worker.peek)
        ref.tell_nowait(Worker.echo)
        assert await asyncio.gather(*asks) == ["a", "b", "c"]


@virtual
async def test_inline_asks_are_bounded_in_each_turn_of_the_loop(core):
    """However many askers there are, others run in between."""
    async with Swarm() as swarm:
        refs = [await swarm.spawn(Worker) for _ in range(10)]
        await asyncio.gather(*(ref.ask(Worker.steps, "", 1) for ref in refs))
        done = 0
        seen: list[int] = []
        loop = asyncio.get_running_loop()

        def tick() -> None:
            seen.append(done)
            if done < 10_000:
                loop.call_soon(tick)

        async def asker(number: int) -> None:
            nonlocal done
            for _ in range(100):
                await refs[number % 10].ask(Worker.add, 1)
                done += 1

        loop.call_soon(tick)
        await asyncio.gather(*(asker(number) for number in range(100)))
        steps = [after - before for before, after in itertools.pairwise(seen)]
        assert max(steps) <= INLINE + 2 * 100


class Blob:
    """Something that is large."""


@pytest.mark.parametrize("pauses", [0, 2])
@pytest.mark.parametrize("how", ["ask", "keywords", "nested", "stream", "tell"])
@virtual
async def test_a_failure_keeps_the_locals_of_its_handler_no_longer_than_its_receiver(
    pauses, how
):
    """No cycle: reference counting frees them."""
    alive: list[weakref.ref[Blob]] = []

    class Heavy(Worker):
        async def spoil(self, blob: Blob) -> None:
            local = Blob()
            alive.append(weakref.ref(local))
            await turns(pauses)
            raise ValueError("no")

        async def nested(self, other: Ref[Worker], blob: Blob) -> None:
            local = Blob()
            alive.append(weakref.ref(local))
            await other.ask(Heavy.spoil, blob)

        async def stream(self, blob: Blob) -> AsyncIterator[int]:
            local = Blob()
            alive.append(weakref.ref(local))
            await turns(pauses)
            yield 1
            raise ValueError("no")

    logging.getLogger("swarm.agents").disabled = True  # pytest keeps what is logged
    gc.collect()
    gc.disable()
    try:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Heavy, restart=Restart(max=100))
            other = await swarm.spawn(Heavy)
            for _ in range(3):
                blob = Blob()
                alive.append(weakref.ref(blob))
                with contextlib.suppress(ValueError):
                    if how == "tell":
                        await ref.tell(Heavy.spoil, blob)
                        await asyncio.sleep(10)
                    elif how == "nested":
                        await ref.ask(Heavy.nested, other, blob)
                    elif how == "stream":
                        async for _ in ref.stream(Heavy.stream, blob):
                            pass
                    elif how == "keywords":
                        await ref.ask(Heavy.spoil, blob=blob)
                    else:
                        await ref.ask(Heavy.spoil, blob)
                del blob
            await turns(3)
            assert {each() for each in alive} == {None}
    finally:
        gc.enable()
        logging.getLogger("swarm.agents").disabled = False


@virtual
async def test_a_class_of_agents_can_be_collected():
    """G13: also one whose methods refer to it by `super()`."""

    def use() -> tuple[type[Worker], "weakref.ref[type]"]:
        class Derived(Worker):
            async def echo(self, value: object = None) -> object:
                return await super().echo(value)

        return Derived, weakref.ref(Derived)

    async with Swarm() as swarm:
        cls, gone = use()
        ref = await swarm.spawn(cls)
        await ref.ask(Worker.echo)
        await ref.stop()
        del cls, ref
        await asyncio.sleep(120)
        gc.collect()
        assert gone() is None


class Clerk(Agent):
    """Takes one file after the other."""

    def __init__(self) -> None:
        self.filed: list[tuple[str, int]] = []

    async def file(self, name: str, *, copies: int = 1) -> None:
        self.filed.append((name, copies))

    async def list(self) -> "list[tuple[str, int]]":
        return self.filed

    async def pages(self, name: str) -> AsyncIterator[str]:
        yield name

    async def plan(self) -> None:
        self.every(1, Clerk.file)


WRONG = (
    ((), {}, "missing a required argument: 'name'"),
    (("a", 2), {}, "too many positional"),
    (("a",), {"pages": 2}, "unexpected keyword argument 'pages'"),
    (("a",), {"name": "b"}, "multiple values"),
)


@virtual
@pytest.mark.parametrize(("args", "kwargs", "why"), WRONG)
async def test_a_tell_with_wrong_arguments_is_the_senders_error(args, kwargs, why):
    async with Swarm() as swarm:
        ref = await swarm.spawn(Clerk)
        for _ in range(2):
            with pytest.raises(TypeError, match=f"Clerk.file cannot be.*{why}"):
                await ref.tell(Clerk.file, *args, **kwargs)
            with pytest.raises(TypeError, match=why):
                ref.tell_nowait(Clerk.file, *args, **kwargs)
            await ref.tell(Clerk.file, "a", copies=2)
            await ref.tell(Clerk.file, "b")
        with pytest.raises(TypeError, match="missing"):
            await ref.ask(Clerk.plan)
        assert await ref.ask(Clerk.list) == [("a", 2), ("b", 1)] * 2
        assert swarm.agents.failures == ()


@virtual
async def test_a_time_out_given_to_a_tell_is_refused_with_the_right_spelling():
    async with Swarm() as swarm:
        ref = await swarm.spawn(Clerk)
        with pytest.raises(TypeError) as caught:
            await ref.tell(Clerk.file, "a", timeout=3)
        assert "ref.within(seconds)" in "".join(caught.value.__notes__)


@virtual
async def test_a_closed_swarm_finds_no_agents():
    async with Swarm() as swarm:
        await swarm.spawn(Clerk, name="ada")
    for look in (
        lambda: swarm.agents["ada"],
        lambda: swarm.agents.get("ada"),
        lambda: swarm.agents.find(),
        lambda: swarm.agents.least_loaded(),
        lambda: swarm.agents.info("ada"),
    ):
        with pytest.raises(Closed):
            look()
    assert list(swarm.agents) == []
    assert "ada" not in swarm.agents


@virtual
@pytest.mark.parametrize("kind", [int, 7, ["clerk"], WRONG.__class__])
async def test_agents_are_found_by_a_class_of_agents_or_a_name(kind):
    async with Swarm() as swarm:
        ref = await swarm.spawn(Clerk)
        with pytest.raises(TypeError, match="a class of agents"):
            swarm.agents.find(type=kind)
        with pytest.raises(TypeError, match="a class of agents"):
            swarm.agents.least_loaded(type=kind)
        assert swarm.agents.find(type=Agent) == [ref]
        assert swarm.agents.find(type="clerk") == [ref]


@virtual
async def test_a_stream_that_is_awaited_names_the_right_spelling():
    async with Swarm() as swarm:
        stream = (await swarm.spawn(Clerk)).stream(Clerk.pages, "a")
        with pytest.raises(TypeError, match=r"use `async for item in ref\.stream"):
            await stream
        with pytest.raises(TypeError, match="not read by a plain `for`"):
            list(stream)

"""The identity as which code runs: in turns, beside them, and in handlers."""

import asyncio
import math

import pytest

from swarm import (
    AccessDenied,
    Agent,
    Closed,
    Policy,
    Ref,
    Swarm,
    correlated,
    event,
    on,
)
from swarm.testing import MemoryServer
from tests.support.virtual_loop import virtual


@event("callers.go")
class Go:
    how: str


class Victim(Agent):
    pass


class Mole(Agent):
    """Kills an agent of others in each way in which code of an agent can run."""

    def __init__(self) -> None:
        self.outcomes: dict[str, object] = {}

    async def _kill(self, how: str) -> None:
        try:
            await self.swarm.agents["victim"].kill()
        except AccessDenied as error:
            self.outcomes[how] = type(error)
        else:
            self.outcomes[how] = "killed"

    async def run(self) -> None:
        await self._kill("run")

    @on(Go)
    async def told(self, _: object) -> None:
        await self._kill("@on")

    async def turn(self) -> None:
        await self._kill("turn")

    async def correlated(self) -> None:
        with correlated("order-1"), correlated("order-2"):
            await self._kill("correlated")

    async def beside(self) -> None:
        self.start_soon(self._kill, "start_soon")

    async def leave(self) -> None:
        async def later() -> None:
            await asyncio.sleep(1)
            await self._kill("task of a turn that has ended")

        self.task = asyncio.create_task(later())

    async def subscribe(self) -> None:
        async def handle(_: object) -> None:
            await self._kill("handler")

        async def again(_: object) -> None:
            await self._kill("at-least-once handler")

        def plain(_: object) -> None:
            try:
                self.swarm.agents["victim"].kill()
            except AccessDenied as error:
                self.outcomes["plain handler"] = type(error)

        await self.swarm.events.on(Go, handle)
        await self.swarm.events.on(Go, again, delivery="at-least-once")
        await self.swarm.events.on(Go, plain)


WAYS = {
    "run",
    "@on",
    "turn",
    "correlated",
    "start_soon",
    "task of a turn that has ended",
    "handler",
    "at-least-once handler",
    "plain handler",
}


@virtual
async def test_code_of_an_agent_ends_no_agent_of_others_wherever_it_runs():
    async with Swarm() as swarm:
        victim = await swarm.spawn(Victim, name="victim")
        mole = await swarm.spawn(Mole)
        await mole.ask(Mole.turn)
        await mole.ask(Mole.correlated)
        await mole.ask(Mole.beside)
        await mole.ask(Mole.leave)
        await mole.ask(Mole.subscribe)
        await swarm.events.publish(Go("now"))
        await asyncio.sleep(2)
        assert mole._cell.agent.outcomes == dict.fromkeys(WAYS, AccessDenied)
        assert victim.status == "idle"
        await victim.kill()


@virtual
async def test_the_program_ends_agents_also_in_its_own_handlers():
    async with Swarm() as swarm:
        victim = await swarm.spawn(Victim, name="victim")

        async def handle(_: object) -> None:
            await victim.kill()

        await swarm.events.on(Go, handle)
        await swarm.events.publish(Go("now"))
        assert await victim.ended() == "killed"


@virtual
async def test_code_beside_the_turns_of_an_agent_may_end_what_it_has_spawned():
    class Boss(Agent):
        async def hire(self) -> None:
            self.start_soon(self._hire)

        async def _hire(self) -> None:
            mine = await self.swarm.spawn(Victim, name="mine")
            await mine.kill()
            await self.ref.kill()

    async with Swarm() as swarm:
        boss = await swarm.spawn(Boss)
        await boss.ask(Boss.hire)
        assert await boss.ended() == "killed"
        assert "mine" not in swarm.agents


async def test_an_agent_in_another_process_is_ended_only_by_those_that_may():
    class Remote(Agent):
        async def beside(self) -> None:
            self.start_soon(self._end)

        async def _end(self) -> None:
            victim = self.swarm.agents["victim"]
            for act in (victim.kill, victim.stop):
                try:
                    await (act() if act == victim.kill else act(1))
                except AccessDenied:
                    self.denied += 1
            await self.swarm.agents["victim"].pause()

        denied = 0

        async def count(self) -> int:
            return self.denied

    server = MemoryServer()
    async with Swarm("lab", server) as one, Swarm("lab", server) as other:
        victim = await one.spawn(Victim, name="victim")
        mole = await other.spawn(Remote)
        await mole.ask(Remote.beside)
        while victim.status != "paused":
            await asyncio.sleep(0)
        assert await mole.ask(Remote.count) == 2


# --- groups ---------------------------------------------------------------------------


class Boss(Agent):
    async def spawn(self, role: str | None) -> Ref[Victim]:
        return await self.swarm.group("team").spawn(Victim, name="v", role=role)

    async def spawn_within(self, role: str | None) -> Ref[Victim]:
        inner = self.swarm.group("team").group("inner")
        return await inner.spawn(Victim, name="w", role=role)

    async def kill(self, ref: Ref[Victim]) -> None:
        await ref.kill()


@virtual
async def test_an_agent_spawns_into_a_group_only_as_the_policy_lets_it_spawn():
    async with Swarm(policy=Policy.strict()) as swarm:
        boss = await swarm.spawn(Boss, role="pulse")
        for method in (Boss.spawn, Boss.spawn_within):
            with pytest.raises(AccessDenied):
                await boss.ask(method, "conductor")
        assert swarm.group("team").members == ()
        await swarm.group("team").spawn(Victim, name="v", role="conductor")


@virtual
async def test_an_agent_may_kill_the_member_that_it_spawned():
    async with Swarm() as swarm:
        boss = await swarm.spawn(Boss)
        for method in (Boss.spawn, Boss.spawn_within):
            ref = await boss.ask(method, None)
            await boss.ask(Boss.kill, ref)
            assert ref.status == "offline"


@virtual
async def test_handles_on_one_group_are_equal_whoever_holds_them():
    class Holder(Agent):
        async def group(self) -> object:
            return self.swarm.group("team")

    async with Swarm() as swarm:
        team = swarm.group("team")
        held = await (await swarm.spawn(Holder)).ask(Holder.group)
        assert {held, team} == {team}
        assert team != swarm.group("other")
        assert team != team.group("team")


async def test_a_group_of_a_closed_swarm_has_no_groups_within():
    swarm = await Swarm.open()
    team = swarm.group("team")
    await swarm.close()
    with pytest.raises(Closed):
        team.group("inner")


async def test_a_group_refuses_what_spawn_refuses():
    async with Swarm() as swarm:
        team = swarm.group("team")
        with pytest.raises(TypeError, match="spawn has no option 'size'; give Victim"):
            await team.spawn(Victim, size=3)


# --- time-outs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "error"), [(math.nan, ValueError), (-1, ValueError), ("x", TypeError)]
)
async def test_a_stop_with_a_time_out_that_is_no_time_stops_nothing(timeout, error):
    server = MemoryServer()
    async with Swarm("lab", server) as swarm, Swarm("lab", server) as other:
        team = swarm.group("team")
        ref = await team.spawn(Victim, name="victim")
        for held in (ref, team, other.agents["victim"]):
            with pytest.raises(error, match="a time-out is "):
                await held.stop(timeout)
        assert ref.status == "idle"
        assert team.members == (ref,)

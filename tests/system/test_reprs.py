"""Every public object shows itself in one short line, without an address."""

import pytest

from swarm import Agent, Batch, Key, Policy, Restart, Swarm, SwarmConfig, event
from tests.support.virtual_loop import turns, virtual


@event("shown.seen")
class Seen:
    number: int = 0


class Shown(Agent):
    async def work(self) -> str:
        return "done"

    async def count(self, most: int):
        for number in range(most):
            yield number

    async def surface(self):
        return self.swarm

    async def itself(self):
        return self


async def handler(_) -> None: ...


@virtual
async def test_every_public_object_shows_itself_in_one_short_line():
    async with Swarm("shop") as swarm:
        ada = await swarm.spawn(Shown, name="ada")
        shown = {
            "swarm": swarm,
            "surface": await ada.ask(Shown.surface),
            "agent": await ada.ask(Shown.itself),
            "registry": swarm.agents,
            "info": swarm.agents.info("ada"),
            "ref": ada,
            "bound ref": ada.within(5),
            "proxy": ada.proxy,
            "stream of answers": ada.stream(Shown.count, 3),
            "group": swarm.group("g"),
            "portal": swarm.portal(),
            "state": swarm.state,
            "namespace": swarm.state.namespace("shared"),
            "past": swarm.state.at(0),
            "transaction": swarm.state.transaction(),
            "watch": swarm.state.watch("shared.**"),
            "key": Key("shared.x", int, default=0),
            "version": await swarm.state.set("shared.x", {"a": [1, 2, 3]}),
            "policy": Policy.default(),
            "strict policy": Policy.strict(),
            "lock": swarm.lock("door"),
            "locks": swarm.locks,
            "acquisition": swarm.lock("door").acquire(),
            "several": swarm.acquire_all(["a", "b"]),
            "semaphore": swarm.semaphore("s", 3),
            "semaphores": swarm.semaphores,
            "barrier": swarm.barrier("b", 2),
            "barriers": swarm.barriers,
            "limiter": swarm.limiter("l", 3, per=1),
            "events": swarm.events,
            "stream": swarm.events.subscribe(Seen),
            "subscription": await swarm.events.on(Seen, handler, name="h"),
            "receipt": await swarm.events.publish(Seen()),
            "dead letters": swarm.events.dead_letters,
            "tasks": swarm.tasks,
            "task": await swarm.tasks.submit("job.kind", {"n": 1}),
            "handoffs": swarm.handoffs,
            "checkpoints": swarm.checkpoints,
            "pipelines": swarm.pipelines,
            "snapshots": swarm.snapshots,
            "restart": Restart("transient"),
            "batch": Batch(10, 0.1),
            "config": SwarmConfig().limits,
        }
        async with swarm.lock("held") as lease:
            shown["lease"] = lease
        await turns(2)
        wrong = {}
        for name, value in shown.items():
            text = repr(value)
            if " at 0x" in text or "\n" in text or len(text) > LONGEST.get(name, 120):
                wrong[name] = text
    if wrong:
        pytest.fail("\n".join(f"{name}: {text[:200]}" for name, text in wrong.items()))


LONGEST = {"config": 400, "info": 400, "version": 200, "restart": 200}
"""Records show their fields."""

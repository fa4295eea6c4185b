"""Wrong arguments: one clear error each, which names the argument."""

import pytest

from swarm import Agent, Interceptor, Policy, Restart, Swarm, SwarmConfig
from swarm.errors import StorageUnsupported
from swarm.storage import find_place
from tests.support.virtual_loop import virtual


class Worker(Agent):
    async def work(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.state.get_many("abc"), TypeError, "get_many takes a list of"),
        (lambda s: s.state.delete_many("abc"), TypeError, "delete_many takes a list"),
        (lambda s: s.state.set_many([("a", 1)]), TypeError, "set_many takes a dict"),
        (lambda s: s.state.update("a", 1), TypeError, r"update\(\) takes a function"),
        (lambda s: s.state.transact(1), TypeError, r"transact\(\) takes an async"),
        (lambda s: s.spawn(Worker, name=3), TypeError, "the name of an agent is text"),
    ],
)
@virtual
async def test_a_wrong_argument_is_named(call, error, says):
    async with Swarm() as swarm:
        await swarm.state.set("a", 1)
        with pytest.raises(error, match=says):
            await call(swarm)
        assert await swarm.state.get("a") == 1


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s, _: s.tasks.find(status="done"), ValueError, "status is one of pend"),
        (lambda s, _: s.limiter("a", 1, per=0), ValueError, "per is from 0.000001 to"),
        (lambda s, _: s.limiter("a", 0, per=1), ValueError, "permits is 1 or more"),
        (lambda _, ref: ref.within("30"), TypeError, "a time-out is a number of sec"),
    ],
)
@virtual
async def test_a_wrong_argument_of_a_plain_method_is_named(call, error, says):
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        with pytest.raises(error, match=says):
            call(swarm, ref)


@virtual
async def test_a_stop_with_a_wrong_time_out_stops_nothing():
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, name="ada")
        with pytest.raises(TypeError, match=r"time-?out is a number of seconds"):
            await ref.stop("x")
        assert swarm.agents.get("ada") is not None


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Restart(on=ValueError), TypeError, "on takes a tuple of exception"),
        (lambda: Restart(on=("x",)), TypeError, "on takes exception classes"),
        (lambda: Policy([("a", "b", "q")]), ValueError, "rights are 'r' or 'rw'"),
        (lambda: Policy(["abc"]), TypeError, "a rule is a Rule or"),
        (lambda: Swarm(clock=3), TypeError, "clock takes a Clock, not 3"),
        (lambda: Swarm(interceptors=Interceptor()), TypeError, "takes a list"),
        (lambda: SwarmConfig(process_ttl="x"), TypeError, "process_ttl is a number"),
        (lambda: SwarmConfig(lock_ttl=None), TypeError, "lock_ttl is a number"),
        (
            lambda: SwarmConfig(tasks=3),
            TypeError,
            r"tasks takes TaskOptions\(...\), no",
        ),
        (lambda: SwarmConfig(limits=3), TypeError, r"limits takes Limits\(...\), not"),
        (lambda: SwarmConfig(events=3), TypeError, r"events takes BusOptions\(...\), "),
        (lambda: Swarm(seed=1.5), TypeError, "seed takes a whole number or text, not"),
        (lambda: SwarmConfig(stream_window=0), ValueError, "stream_window is 1 or"),
        (lambda: find_place("sqlite:run.db"), StorageUnsupported, "sqlite:///relat"),
        (lambda: find_place("sqlite:/run.db"), StorageUnsupported, "sqlite:///relat"),
    ],
)
def test_a_wrong_argument_of_a_class_is_named(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_swarm_has_a_name():
    with pytest.raises(ValueError, match="the name of a swarm is empty"):
        Swarm("")


async def test_a_zone_without_a_cron_expression_is_refused():
    async with Swarm() as swarm:
        with pytest.raises(ValueError, match="goes with `cron`"):
            await swarm.tasks.schedule("s", "a.kind", every=5, zone="Mars")


async def test_an_error_inside_a_property_of_a_swarm_is_not_hidden():
    class Own(Swarm):
        @property
        def plan(self):
            return self.state.nothing

    async with Own() as swarm:
        with pytest.raises(AttributeError, match=r"StateHandle.*'nothing'"):
            _ = swarm.plan
        with pytest.raises(AttributeError, match=r"'Own'.*'absent'"):
            _ = swarm.absent

"""What the policy says of locks, semaphores and barriers (S15, L17, L21)."""

import pytest

from swarm import AccessDenied, AgentIdentity, NotFound, Policy
from tests.support.coordination import World
from tests.support.virtual_loop import virtual


def who(role: str, name: str = "") -> AgentIdentity:
    return AgentIdentity(name or role, role, name or role, role)


@virtual
async def test_by_default_agents_hold_what_they_want_and_take_nothing_from_others():
    """L17: force-release is for the program; an agent may end its own lease so."""
    ada, bo = who("pulse", "ada"), who("pulse", "bo")
    async with World() as world:
        lease = await world.lock("x", ada).acquire()
        with pytest.raises(AccessDenied, match="no rule lets bo"):
            await world.all.locks(bo).force_release(lease.id, reason="mine")
        assert lease.is_live
        with pytest.raises(NotFound):
            await world.all.locks(bo).force_release("nobody", reason="mine")
        await world.all.locks(ada).force_release(lease.id, reason="done")
        assert not lease.is_live
        again = await world.lock("x", bo).acquire()
        await world.locks.force_release(again.id, reason="the program says so")
        assert not again.is_live
        world.check_empty()


@virtual
async def test_the_strict_matrix_lets_the_conductor_force_and_the_guardian_only_look():
    """The row `locks.*` of the specification's matrix."""
    pulse, conductor, guardian = who("pulse"), who("conductor"), who("guardian")
    async with World(policy=Policy.strict()) as world:
        lease = await world.lock("x", pulse).acquire()
        permits = await world.all.semaphore(pulse, "s", 2).acquire()
        assert [h.owner for h in world.all.locks(guardian).held()] == ["pulse"]
        for refused in (
            lambda: world.lock("y", guardian).acquire(),
            lambda: world.lock("y", guardian).acquire_nowait(),
            lambda: world.all.acquire_all(guardian, ["y", "z"]),
            lambda: world.all.semaphore(guardian, "s").acquire(),
            lambda: world.lock("y", who("stranger")).acquire(),
        ):
            with pytest.raises(AccessDenied, match="hold"):
                await refused()
        with pytest.raises(AccessDenied, match="hold"):
            async with world.lock("y", guardian):
                raise AssertionError
        with pytest.raises(AccessDenied, match="hold"):
            world.all.barrier(guardian, "b", 2)  # a new name
        world.barrier("b", 2)
        barrier = world.all.barrier(guardian, "b", 2)
        for refused in (barrier.wait, barrier.reset, barrier.abort):
            with pytest.raises(AccessDenied, match="hold"):
                await refused()
        with pytest.raises(AccessDenied):
            await world.all.locks(guardian).force_release(lease.id, reason="no")
        await world.all.locks(conductor).force_release(lease.id, reason="yes")
        assert not lease.is_live
        await permits.release()
        world.check_empty()


@virtual
async def test_an_identity_that_may_not_read_a_lock_sees_no_holder():
    """S15: queries pass the same predicate, and leak nothing."""
    policy = Policy([("secretive", "locks.open", "rw"), ("secretive", "agents", "r")])
    agent = who("secretive")
    async with World(policy=policy) as world:
        one = await world.lock("open").acquire()
        two = await world.lock("hidden").acquire()
        assert [h.resource for h in world.all.locks(agent).held()] == ["open"]
        assert world.all.locks(agent).held("hidden") == ()
        assert world.all.locks(agent).queue() == ()
        assert {h.resource for h in world.locks.held()} == {"open", "hidden"}
        await one.release()
        await two.release()
        world.check_empty()


def test_the_policy_says_which_role_may_hold_a_lock():
    """`hold` is what `own` rules leave of writing."""
    policy = Policy.default()
    ada = who("pulse", "ada")
    assert policy.allows(ada, "locks.x", "hold")
    assert not policy.allows(ada, "locks.x", "write")
    assert policy.explain(ada, "locks.x", "hold").rule is not None
    assert "locks" in policy.accessible_paths(ada, "hold")
    with pytest.raises(ValueError, match="hold"):
        policy.explain(ada, "locks.x", "grab")  # type: ignore[arg-type]

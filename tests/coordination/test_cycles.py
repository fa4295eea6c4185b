"""Cycles over processes, found in the records of locks and semaphores alone."""

from swarm.coordination._cycles import CycleLink, WaitIndex, victim_of
from swarm.coordination._grants import Grant, Request
from swarm.coordination._lease_state import FREE
from swarm.coordination._semaphore_rules import SemaphoreState
from swarm.model import Path


class World:
    def __init__(self):
        self.states = {}
        self.index = WaitIndex(lambda path: self.states[path.name])
        self.count = 0

    def state(self, name, permits=0):
        if name not in self.states:
            blank = SemaphoreState(permits, permits) if permits else FREE
            self.states[name] = blank.fresh()
        return self.states[name]

    def hold(self, session, name, mode="exclusive", permits=0, take=1):
        self.count += 1
        state = self.state(name, permits)
        state.add(
            Grant(
                f"g{self.count}",
                "o",
                session,
                0,
                10**9,
                mode if not permits else "",
                take,
            )
        )
        return self

    def want(self, session, name, mode="exclusive", permits=0, take=1):
        self.count += 1
        state = self.state(name, permits)
        n = self.count
        state.enqueue(
            Request(f"r{n}", "o", session, 1, "" if permits else mode, take, n, n)
        )
        new = self.index.update(Path.of("locks", name), state.requests.values())
        assert new == [session]
        return self

    def cycle(self, session):
        return self.index.find_cycle(session)

    def sessions(self, session):
        return [link.session for link in self.cycle(session)]


def test_two_sessions_that_want_each_others_lock_are_a_cycle():
    world = World().hold("A", "x").hold("B", "y").want("A", "y")
    assert world.cycle("A") == ()
    world.want("B", "x")
    assert world.cycle("B") == (
        CycleLink("B", "g2", "r4", 4),
        CycleLink("A", "g1", "r3", 3),
    )
    assert set(world.sessions("A")) == {"A", "B"}
    assert victim_of(world.cycle("A")) == victim_of(world.cycle("B"))
    assert victim_of(world.cycle("A")).session == "B"


def test_a_cycle_of_three_is_spelled_in_the_order_of_the_waits():
    world = World().hold("A", "x").hold("B", "y").hold("C", "z")
    world.want("A", "y").want("B", "z").want("C", "x")
    assert world.sessions("C") == ["C", "A", "B"]


def test_a_session_that_only_waits_for_a_cycle_is_not_in_it():
    world = World().hold("A", "x").hold("B", "y").want("A", "y").want("B", "x")
    world.want("D", "x")
    assert world.cycle("D") == ()


def test_shared_holders_all_have_to_leave():
    world = World().hold("A", "x", "shared").hold("B", "x", "shared").hold("C", "y")
    world.want("C", "x").want("B", "y")
    assert world.sessions("B") == ["B", "C"]
    assert World().hold("A", "x", "shared").want("B", "x", "shared").cycle("B") == ()


def test_a_semaphore_is_a_cycle_only_when_no_other_holder_can_give_back():
    world = World().hold("A", "s", permits=2).hold("C", "s", permits=2).hold("B", "y")
    world.want("B", "s", permits=2).want("A", "y")
    assert world.cycle("A") == ()  # C can give back
    world.hold("D", "z").want("C", "y")
    assert world.sessions("C") == ["C", "B"]
    assert set(world.sessions("A")) == {"A", "B"}


def test_a_request_that_has_left_closes_nothing():
    world = World().hold("A", "x").hold("B", "y").want("A", "y").want("B", "x")
    state = world.states["y"]
    state.dequeue(next(iter(state.requests.values())))
    assert world.index.update(Path.of("locks", "y"), ()) == []
    assert world.cycle("B") == ()
    assert len(world.index) == 1

"""A process joins under an id of its own, stays while it is heard of, and leaves."""

import attrs

from swarm.agents import AgentRecord, Status
from swarm.kernel import MemoryKernel
from swarm.model import OWNER, TIME, AgentIdentity, AgentStopped, Path
from swarm.ports import Plan, Write
from swarm.processes._process_record import (
    ProcessRecord,
    describe_process,
    new_process_id,
    process_of,
    process_path,
    processes_in,
)
from swarm.processes._process_rules import (
    _PAGE,
    plan_cleanup,
    plan_join,
    plan_leave,
    plan_renewal,
)
from swarm.processes._singleton_rules import plan_claim, plan_release
from tests.support.clock import FakeClock

NEW = ProcessRecord("", "host", 7, 1_700_000_000_000_000)
TTL = 10_000_000


def kernel():
    clock = FakeClock()
    return MemoryKernel(clock), clock


async def join(memory):
    return (await memory.apply(TIME, plan_join, NEW, TTL))[1]


def agent(name, process):
    identity = AgentIdentity(name, "worker", name, "worker")
    record = AgentRecord(identity, ("c",), 1_700_000_000_000_001, Status.IDLE, process)
    return Write(Path.of("global", "registry", name), record=record)


async def test_no_two_processes_get_one_id_even_after_the_first_has_gone():
    memory, clock = kernel()
    ids = []
    for _ in range(5):
        ids.append((await join(memory)).id)
        ids.append((await join(memory)).id)
        clock.advance(11)
    assert len(set(ids)) == len(ids)


async def test_a_process_that_is_renewed_lives_and_another_ends_at_its_ttl():
    memory, clock = kernel()
    one, two = await join(memory), await join(memory)
    for _ in range(4):
        clock.advance(9)
        assert (await memory.apply(TIME, plan_renewal, one, TTL))[1] is True
    assert await memory.read(lambda view: list(processes_in(view))) == [one.id]
    assert (await memory.apply(TIME, plan_renewal, two, TTL)) == (None, False)


async def test_clean_uping_takes_only_the_agents_of_a_process_that_has_gone():
    memory, clock = kernel()
    one, two = await join(memory), await join(memory)
    await memory.commit(OWNER, [agent("a", one.id), agent("b", two.id)])
    assert await memory.apply(TIME, plan_cleanup, one.id) == (None, False)
    clock.advance(9)
    await memory.apply(TIME, plan_renewal, two, TTL)
    clock.advance(2)
    commit, has_more = await memory.apply(TIME, plan_cleanup, one.id)
    assert commit.events == (AgentStopped("a", "process died"),)
    assert not has_more
    assert await memory.find(Path.of("global", "registry", "a")) is None
    assert await memory.find(Path.of("global", "registry", "b")) is not None
    assert await memory.apply(TIME, plan_cleanup, one.id) == (None, False)


async def test_leaving_takes_every_agent_and_then_the_process():
    memory, _ = kernel()
    one = await join(memory)
    writes = [agent(f"a{n}", one.id) for n in range(_PAGE + 1)]
    await memory.commit(OWNER, writes)
    rounds = 1
    while (await memory.apply(OWNER, plan_leave, one.id))[1]:
        assert await memory.find(process_path(one.id)) is not None
        rounds += 1
    assert rounds == 2
    assert await memory.read(lambda view: list(processes_in(view))) == []
    assert await memory.apply(OWNER, plan_leave, one.id) == (None, False)


async def test_records_read_from_their_json_are_the_same():
    memory, _ = kernel()
    one = await join(memory)
    await memory.commit(OWNER, [agent("a", one.id)])
    document = await memory.find(process_path(one.id))
    text = describe_process(document, one.id)
    document.body, document.record = document.json, None
    assert describe_process(document, one.id) == text
    document = await memory.find(Path.of("global", "registry", "a"))
    record = document.record
    assert AgentRecord.from_json(document.value) == attrs_like(record)
    assert describe_process(None, "p1") == "p1"


def attrs_like(record):
    return Same(record)


class Same:
    def __init__(self, record):
        self.told = record.to_json()

    def __eq__(self, other):
        return other.to_json() == self.told


def test_the_process_of_an_id_is_what_stands_before_its_number():
    assert process_of("p1-17") == "p1"


def test_the_id_of_a_process_is_new_although_the_server_has_lost_all_commits():
    assert new_process_id(0, 36) == "p00010"
    assert new_process_id(0, 37) == "p00011"
    assert new_process_id(36, 37) == "p100011"


async def test_a_singleton_s_name_is_given_back_only_by_the_process_that_has_it():
    memory, _ = kernel()
    one = await join(memory)
    mine = agent("boss", one.id).record
    later = attrs.evolve(mine, started_at=mine.started_at + 1)
    elsewhere = attrs.evolve(mine, process="p9")
    assert (await memory.apply(OWNER, plan_claim, mine))[1]
    assert not (await memory.apply(OWNER, plan_claim, later))[1]
    for other in (later, elsewhere):
        assert await memory.apply(OWNER, plan_release, other, "failed") == (None, None)
    commit, _ = await memory.apply(OWNER, plan_release, mine, "failed")
    assert list(commit.events) == [AgentStopped("boss", "failed")]
    assert (await memory.apply(OWNER, plan_claim, later))[1]


async def test_a_rule_notices_that_another_process_has_joined():
    """On a server, reading the folder is the condition that makes ids unique."""
    memory, _ = kernel()
    looked = []

    class Noting:
        def __init__(self, view):
            self._view = view

        def __getattr__(self, name):
            looked.append(name)
            return getattr(self._view, name)

    def rule(view) -> Plan:
        return plan_join(Noting(view), NEW, TTL)

    await memory.apply(TIME, rule)
    assert "documents" in looked

"""Faults once found here, each of which must stay impossible."""

import datetime

import pytest

from swarm.errors import ConflictError, InvalidPath, InvalidValue, PathConflict
from swarm.model import AgentIdentity, Document
from swarm.state import Key, Policy, Rule, ValidationResult
from swarm.testing.contracts._base import put
from tests.support.state import agent, make_world

INSIDE = Policy([("w", "doc.mine", "rw")])
MINE = AgentIdentity("m", "w", "m", "w")


async def test_a_sanitised_place_inside_a_document_is_what_is_stored():
    policy = Policy.default().with_validator(
        "doc.a", lambda i, p, old, new: ValidationResult.replace("clean")
    )
    state = make_world(policy).state
    await state.set("doc", {"a": "dirty", "b": 1})
    assert await state.get("doc") == {"a": "clean", "b": 1}
    await state.set("doc.a", "dirt")
    assert await state.get("doc.a") == "clean"


async def test_what_a_validator_changes_in_place_does_not_count():
    """G9: neither in the value nor for the next validator."""
    seen = []

    def vandal(identity, path, old, new):
        new["x"] = "broken"
        if type(old) is dict:
            old["x"] = "broken"
        return ValidationResult.ok()

    def witness(identity, path, old, new):
        seen.append((old, new))
        return ValidationResult.ok()

    policy = Policy.default().with_validator("d", vandal).with_validator("d", witness)
    state = make_world(policy.with_validator("d.x", vandal_inside)).state
    await state.set("d", {"x": {"y": 1}})
    await state.set("d", {"x": {"y": 2}})
    assert seen[-1] == ({"x": {"y": 1}}, {"x": {"y": 2}})
    assert await state.get("d") == {"x": {"y": 2}}


def vandal_inside(identity, path, old, new):
    new["y"] = "broken"
    return ValidationResult.ok()


async def test_a_default_is_not_shared_between_callers():
    """G9: changing a default that was returned changes nothing."""
    key = Key("list", list, default=[])
    state = make_world().state
    (await state.get(key)).append(1)
    assert await state.get(key) == []
    with pytest.raises(ZeroDivisionError):
        await state.update(key, lambda value: value.append(2) or 1 / 0)
    assert await state.get(key) == []


async def test_a_key_may_hold_a_datetime():
    state = make_world().state
    key = Key("when", datetime.datetime)
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
    await state.set(key, moment)
    assert await state.get(key) == moment


async def test_a_conflict_inside_a_document_shows_no_more_than_the_place():
    """S15: not through the error of a deletion, nor of a transaction."""
    world = make_world(INSIDE)
    await world.state.set("doc", {"mine": 1, "secret": 2})
    mine = world.as_(MINE)
    with pytest.raises(ConflictError) as caught:
        await mine.delete("doc.mine", expected_version=99)
    assert caught.value.value == 1
    with pytest.raises(ConflictError) as caught:
        await mine.set("doc.mine", 5, expected_version=99)
    assert caught.value.value == 1
    with pytest.raises(ConflictError) as caught:
        async with mine.transaction() as tx:
            await tx.set("doc.mine", 7)
            await world.state.set("doc", {"mine": 2, "secret": 3})
    assert caught.value.value is None
    assert "secret" not in repr(caught.value.__dict__)


async def test_an_error_raised_by_an_update_function_reaches_the_caller():
    state = make_world().state
    calls = []

    def change(value):
        calls.append(value)
        raise ConflictError(message="my own")

    with pytest.raises(ConflictError, match="my own"):
        await state.update("a", change)
    assert len(calls) == 1


async def test_an_update_in_a_transaction_keeps_the_time_to_live():
    world = make_world()
    await world.state.set("a", 1, ttl=10)
    await world.state.set("b", 1, ttl=10)
    async with world.state.transaction() as tx:
        await tx.update("a", lambda n: n + 1)
        await tx.increment("b")
    assert await world.state.get_many(["a", "b"]) == {"a": 2, "b": 2}
    world.clock.advance(11)
    assert await world.state.keys() == []


async def test_accessible_paths_promise_no_more_than_is_allowed():
    stranger = agent("s1", "pulse", kind="heartbeat")
    own = Policy([Rule("pulse", "agents.pulse.*", "rw", own=True)])
    assert own.accessible_paths(stranger, "write") == []
    deep = Policy([Rule("pulse", "agents.*.*.data", "rw", own=True)])
    assert deep.accessible_paths(agent("s1"), "write") == ["agents.pulse.s1.data"]


async def test_history_inside_a_document_outlives_the_document():
    """S10: never a silent gap."""
    state = make_world().state
    await state.set("doc", {"x": 1})
    await state.set("doc.x", 2)
    await state.delete("doc")
    kinds = [c.kind.value for c in await state.history("doc.x")]
    assert kinds == ["created", "updated", "deleted"]
    await state.set("doc.x", 3)
    assert [c.kind.value for c in await state.history("doc.x")] == [*kinds, "created"]
    assert [c.kind.value for c in await state.history("doc.x", limit=2)] == [
        "deleted",
        "created",
    ]


async def test_a_namespace_is_named_by_text():
    state = make_world().state
    for bad in (0, "", None, 1.5):
        with pytest.raises(InvalidPath):
            state.namespace(bad)


async def test_scanning_inside_a_large_document_decodes_it_once(monkeypatch):
    state = make_world().state
    await state.set("doc", {f"k{n}": [n] for n in range(500)})
    count = []
    decode = Document.value.fget

    def value(self):
        count.append(1)
        return decode(self)

    monkeypatch.setattr(Document, "value", property(value))
    found = [(p, v) async for p, v in state.scan("doc.*")]
    assert len(found) == 500
    assert len(count) < 5


async def test_what_a_resolver_returns_is_checked_like_any_value():
    state = make_world().state
    await state.set("a", None)
    for bad in ({1, 2}, float("nan"), {1: 1}):
        with pytest.raises(InvalidValue):
            await state.set("a", 1, resolve=lambda candidates, bad=bad: bad)
    assert await state.get("a", "gone") is None


async def test_a_write_with_validators_sees_what_came_between(monkeypatch):
    """S15: check and write in one commit, over the world as it is by then."""
    policy = Policy.default().with_validator("**", lambda *a: ValidationResult.ok())
    world = make_world(policy)
    commit = world.kernel.commit
    between = []

    async def slow(author, writes=(), **more):
        if between:
            await commit(author, [put(*between.pop())])
        return await commit(author, writes, **more)

    monkeypatch.setattr(world.kernel, "commit", slow)
    between.append(("a", {"x": 1}))
    await world.state.set("a.b", 2)
    assert await world.state.get("a") == {"x": 1, "b": 2}
    between.append(("f.two", 2))
    await world.state.set("f.one", 1)
    between.append(("f.three", 3))
    await world.state.delete("f", recursive=True)
    assert await world.state.keys("f.**") == []


async def test_what_a_transaction_wrote_is_its_own():
    world = make_world()
    ada = world.as_(agent("ada"))
    async with ada.transaction() as tx:
        await tx.set("shared.x", 1)
        seen = await tx.read("shared.x")
        assert (seen.value, seen.version, str(seen.modified_by)) == (1, 0, "ada")


async def test_a_place_that_is_not_there_is_no_default():
    """`default` tells what is absent, also where ABSENT itself is asked for."""
    state = make_world().state
    async with state.transaction() as tx:
        assert await tx.increment("new") == 1
        assert await tx.increment("new") == 2
    assert await state.get("new") == 2


async def test_a_draft_refuses_an_index_where_nothing_is():
    state = make_world().state
    async with state.transaction() as tx:
        with pytest.raises(PathConflict):
            await tx.set("b[0]", 1)
        assert await tx.get("b") is None
    with pytest.raises(PathConflict):
        await state.set_many({"b[0]": 1})

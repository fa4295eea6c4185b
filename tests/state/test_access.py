import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import AccessDenied, InvalidPath, InvalidValue
from swarm.model import ABSENT, OWNER, AgentIdentity, Path, Pattern, match
from swarm.model._path import format_segments
from swarm.state import Decision, Policy, Rights, Rule, ValidationResult, home
from tests.support.state import agent, dump, make_world
from tests.support.strategies import few_paths, few_patterns

ROLES = ["pulse", "guardian", "*"]
patterns = few_patterns.map(format_segments)
agentic = st.sampled_from(
    [
        "agents.*.*",
        "agents.pulse.*",
        "agents.**",
        "**",
        "agents.*.*.data",
        "**.data",
        "agents.pulse.s1",
    ]
)
rules = st.lists(
    st.builds(
        Rule,
        role=st.sampled_from(ROLES),
        pattern=patterns | agentic,
        rights=st.sampled_from(["r", "rw"]),
        own=st.booleans(),
    ),
    max_size=5,
)
identities = st.builds(
    AgentIdentity,
    agent_id=st.just("ada"),
    type=st.sampled_from(["pulse", "heartbeat"]),
    session=st.sampled_from(["s1", "s2"]),
    role=st.sampled_from(["pulse", "guardian", "other", "owner"]),
)
places = few_paths.map(lambda parts: Path.of(*parts)) | st.sampled_from(
    [
        Path.parse(text)
        for text in (
            "agents",
            "agents.pulse",
            "agents.pulse.s1",
            "agents.pulse.s1.data",
            "agents.pulse.s2.data.x",
            "agents.heartbeat.s1.data",
            "agents.pulse.s1.x.data",
        )
    ]
)
actions = st.sampled_from(["read", "write", "delete", "role", "kill"])


def allowed(policy, identity, place, action):
    """Ask every rule about every place on the way."""
    for rule in policy.rules:
        role = rule.role in ("*", identity.role)
        rights = action == "read" or rule.rights is Rights.WRITE
        above = [place.segments[:n] for n in range(1, len(place.segments) + 1)]
        meant = any(match(rule.pattern.segments, way) for way in above)
        own = ("agents", identity.type, identity.session)
        mine = not rule.own or place.segments[:3] == own
        if role and rights and meant and mine:
            return True
    return False


@settings(max_examples=200)
@given(rules, identities, places, actions)
def test_a_decision_is_what_asking_every_rule_gives(found, identity, place, action):
    """S15: one predicate; what no rule allows is denied."""
    policy = Policy(found)
    decision = policy.explain(identity, place, action)
    assert bool(decision) == allowed(policy, identity, place, action)
    assert policy.allows(identity, place.text, action) == decision.allowed
    assert str(decision) == decision.reason
    assert (decision.rule in policy.rules) == decision.allowed
    assert policy.explain(OWNER, place, action)
    assert isinstance(decision, Decision)


@settings(max_examples=200)
@given(rules, identities, places, actions)
def test_accessible_paths_are_neither_too_many_nor_too_few(
    found, identity, place, action
):
    """At and below the patterns it lists one may; elsewhere not."""
    policy = Policy(found)
    listed = [Pattern.parse(text) for text in policy.accessible_paths(identity, action)]
    assert any(p.covers(place) for p in listed) == policy.allows(
        identity, place, action
    )
    assert policy.accessible_paths(OWNER, action) == ["**"]


MATRIX = """
global.config               R    R    R    RW   R
global.registry             R    R    R    RW   R
global.tasks                R    R    R    RW   R
global.metrics              R    R    R    RW   R
global.health               R    R    R    RW   RW
agents.pulse.*              RW1  R    R    RW   R
agents.heartbeat.*          R    RW1  R    RW   R
agents.dream_weaver.*       R    R    RW1  RW   R
agents.conductor.*          R    R    R    RW   R
locks.*                     RW2  RW2  RW2  RW   R
"""
FIVE = ["pulse", "heartbeat", "dream_weaver", "conductor", "guardian"]
CELLS = [
    (line.split()[0], role, cell)
    for line in MATRIX.strip().splitlines()
    for role, cell in zip(FIVE, line.split()[1:], strict=True)
]


@pytest.mark.parametrize(("row", "role", "cell"), CELLS)
def test_the_strict_policy_is_the_schemas_matrix(row, role, cell):
    """Cell by cell. 1: only own sessions. 2: only own locks, which is the locks' own
    part to judge (L21): through the state they are read."""
    policy = Policy.strict()
    identity = agent("me", role)
    below = row.replace("*", "me")
    for place in (below, f"{below}.x", f"{below}.x.y[0]"):
        assert policy.allows(identity, place, "read")
        writes = cell in ("RW", "RW1")
        assert policy.allows(identity, place, "write") == writes
        assert policy.allows(identity, place, "delete") == writes
    other = row.replace("*", "other")
    assert policy.allows(identity, other, "write") == (cell == "RW")
    assert policy.allows(identity, other, "read")


@pytest.mark.parametrize("role", [*FIVE, "stranger", "owner", ""])
def test_the_strict_policy_denies_what_is_not_in_the_matrix(role):
    policy = Policy.strict()
    identity = agent("me", role, kind="pulse")
    for place in (
        "shared.x",
        "global",
        "global.secret",
        "agents.guardian.me",
        "x",
        "agents",
    ):
        for action in ("read", "write", "delete"):
            decision = policy.explain(identity, place, action)
            assert not decision
            assert place in decision.reason
    if role not in FIVE:
        assert policy.accessible_paths(identity, "read") == []


def test_an_agent_is_not_the_owner_by_name():
    """G11: identity cannot be forged by choosing a name."""
    fake = AgentIdentity("owner", "owner", "owner", "owner")
    assert fake != OWNER
    assert not Policy().allows(fake, "a", "read")
    assert Policy().allows(OWNER, "a", "write")


def test_the_default_policy_reads_all_and_writes_its_own_and_shared():
    policy = Policy.default()
    ada = agent("ada")
    assert home(ada) == Path.parse("agents.pulse.ada")
    assert policy.accessible_paths(ada, "read") == ["**", "agents.pulse.ada", "shared"]
    assert policy.accessible_paths(ada, "write") == ["agents.pulse.ada", "shared"]
    more = policy.with_rules(("pulse", "plans.**", "rw"))
    assert more.allows(ada, "plans.x", "write")
    assert not policy.allows(ada, "plans.x", "write")


def test_agents_spawn_in_their_own_role_and_end_only_their_own():
    """The right to spawn is not the right to give more than one has."""
    policy = Policy.default().with_rules(("boss", "plans.**", "rw"))
    ada, boss = agent("ada"), agent("bea", "boss", kind="pulse")
    assert policy.explain_spawn(ada, "bo", ada.role)
    assert policy.explain_spawn(ada, "bo", "a_role_that_no_rule_names")
    assert not policy.explain_spawn(ada, "bo", "boss")
    assert policy.explain_spawn(boss, "bo", "boss")
    assert policy.explain_spawn(OWNER, "bo", "boss")
    refused = policy.explain(ada, "global.registry.bo", "kill")
    assert str(refused) == "no rule lets ada (role pulse) kill global.registry.bo"
    chiefs = policy.with_rules(("boss", "global.registry", "rw"))
    assert chiefs.explain_spawn(boss, "bo", "pulse")
    assert chiefs.allows(boss, "global.registry.bo", "kill")


def test_in_the_strict_policy_only_the_conductor_spawns_kills_and_gives_roles():
    policy = Policy.strict()
    for role in (*FIVE, "stranger", "owner"):
        me = agent("me", role, kind="pulse")
        is_chief = role == "conductor"
        for other in (role, "guardian", "stranger"):
            assert bool(policy.explain_spawn(me, "bo", other)) == is_chief
        assert policy.allows(me, "global.registry.bo", "kill") == is_chief


def test_a_policy_is_checked_when_it_is_made():
    with pytest.raises(InvalidPath):
        Policy([("a", "x..y", "r")])
    with pytest.raises(ValueError, match="w"):
        Policy([("a", "x", "w")])
    with pytest.raises(ValueError, match="action"):
        Policy().explain(OWNER, "a", "execute")
    with pytest.raises(InvalidPath):
        Policy().explain(OWNER, "a..b", "read")
    assert str(Rule("a", "b.*", "r", own=True)) == "a has r on b.* (own only)"


async def test_a_validator_is_a_synchronous_function():
    """A coroutine function where only a synchronous one makes sense: TypeError."""

    async def later(*arguments):
        return ValidationResult.ok()

    class Later:
        async def __call__(self, *arguments):
            return ValidationResult.ok()

    for bad in (later, functools.partial(later)):
        with pytest.raises(TypeError, match="synchronous"):
            Policy(validators=[("a", bad)])
        with pytest.raises(TypeError, match="synchronous"):
            Policy().with_validator("a", bad)
    for bad in (Later(), lambda *a: later(*a), lambda *a: True, lambda *a: None):
        world = make_world(Policy.default().with_validator("a", bad))
        with pytest.raises(TypeError, match="ValidationResult"):
            await world.state.set("a", 1)
        assert await dump(world.kernel) == {}


def even(identity, path, old, new):
    if new is ABSENT:
        return ValidationResult.reject("it stays")
    if type(new) is not int:
        return ValidationResult.reject(f"{path} is a number")
    return ValidationResult.ok() if new % 2 == 0 else ValidationResult.replace(new + 1)


@pytest.fixture
async def guarded():
    policy = Policy.default().with_validator("n", even).with_validator("d.*.n", even)
    return make_world(policy)


async def test_every_way_to_write_asks_the_validators(guarded):
    """S15: check and write are one; a rejection has no effect, whichever way."""
    state = guarded.state
    await state.set("n", 2)
    await state.set("d", {"a": {"n": 2}})

    async def in_transaction():
        async with state.transaction() as tx:
            await tx.set("free", 1)
            await tx.set("n", "text")

    ways = [
        lambda: state.set("n", "text"),
        lambda: state.set("n", {"x": 1}),
        lambda: state.set("n", "text", ttl=1),
        lambda: state.set("n", "text", resolve="last-write-wins"),
        lambda: state.update("n", lambda old: "text"),
        lambda: state.compare_and_set("n", 2, "text"),
        lambda: state.delete("n"),
        lambda: state.delete_many(["n"]),
        lambda: state.set_many({"free": 1, "n": "text"}),
        in_transaction,
        lambda: state.set("d", {"a": {"n": "text"}}),
        lambda: state.set("d.a", {"n": "text"}),
        lambda: state.set("d.a.n", "text"),
        lambda: state.set("d", {"a": {}}),
        lambda: state.delete("d.a.n"),
        lambda: state.delete("d"),
        lambda: state.delete("d", recursive=True),
    ]
    before, revision = await dump(guarded.kernel), await state.revision()
    for way in ways:
        with pytest.raises(AccessDenied, match=r"owner: (it stays|.* is a number)"):
            await way()
        assert await dump(guarded.kernel) == before
        assert await state.revision() == revision


async def test_every_way_to_write_stores_what_the_validators_made_of_it(guarded):
    state = guarded.state
    assert (await state.set("n", 1)).value == 2
    assert (await state.update("n", lambda n: n + 1)).value == 4
    await state.increment("n")
    assert await state.get("n") == 6
    assert await state.compare_and_set("n", 6, 7)
    assert await state.get("n") == 8
    made = await state.set_many({"n": 9, "d": {"a": {"n": 1}, "b": 5}})
    assert made["n"].value == 10
    assert made["d"].value == {"a": {"n": 2}, "b": 5}
    async with state.transaction() as tx:
        await tx.set("n", 11)
    assert await state.get("n") == 12
    assert (await state.set("d.a.n", 3)).value == 4
    assert (await state.set("d.c", {"n": 5})).value == {"n": 6}


async def test_a_validator_that_raises_or_replaces_with_no_json_changes_nothing():
    policy = Policy.default().with_validator("a", lambda *x: 1 / 0)
    world = make_world(
        policy.with_validator("b", lambda *x: ValidationResult.replace({1}))
    )
    with pytest.raises(ZeroDivisionError):
        await world.state.set("a", 1)
    with pytest.raises(InvalidValue):
        await world.state.set("b", 1)
    assert await dump(world.kernel) == {}


async def test_validators_see_who_where_and_both_values():
    seen = []

    def witness(identity, path, old, new):
        seen.append((str(identity), path, old, new))
        return ValidationResult.ok()

    world = make_world(Policy.default().with_validator("shared.**", witness))
    ada = world.as_(agent("ada"))
    await ada.set("shared.a", 1)
    await ada.set("shared.a", 2)
    await ada.delete("shared.a")
    assert seen == [
        ("ada", "shared.a", ABSENT, 1),
        ("ada", "shared.a", 1, 2),
        ("ada", "shared.a", 2, ABSENT),
    ]


async def test_records_that_swarm_keeps_are_read_only_even_for_the_owner():
    """L21: agents cannot write lock records through the state."""
    world = make_world(Policy([("*", "**", "rw")]))
    for handle in (world.state, world.as_(agent("ada"))):
        for path in (
            *("locks.x", "locks", "global.tasks.t1", "global", "semaphores.s.n"),
            *("global.schedules.daily", "global.task_keys.k"),
        ):
            for way in (
                handle.set(path, 1),
                handle.delete(path, recursive=True),
                handle.update(path, lambda old: 1),
                handle.increment(path),
                handle.compare_and_set(path, ABSENT, 1),
                handle.set_many({"free": 1, path: 1}),
                handle.delete_many([path]),
            ):
                with pytest.raises(AccessDenied, match="keeps itself"):
                    await way
            assert await handle.get(path) is None
    assert await dump(world.kernel) == {}


# --- reading: every way, against the policy -----------------------------------

DOCUMENTS = {
    "a.x": {"p": "ax.p", "q": {"r": "ax.q.r"}},
    "a.y": "ay",
    "a.z.w": ["azw0", "azw1"],
    "b": {"p": "b.p"},
}
reading = st.lists(
    st.tuples(
        st.just("reader"),
        st.sampled_from(
            [
                "a",
                "a.x",
                "a.x.p",
                "a.x.q",
                "*.x",
                "**.p",
                "a.z.w[0]",
                "b",
                "b.p",
                "a.y",
                "*.z.**",
            ]
        ),
        st.just("r"),
    ),
    max_size=3,
)
ASKED = [
    "a",
    "a.x",
    "a.x.p",
    "a.x.q",
    "a.x.q.r",
    "a.y",
    "a.z",
    "a.z.w",
    "a.z.w[0]",
    "b",
    "b.p",
]
PATTERNS = [
    "**",
    "a.*",
    "a.**",
    "*.*.p",
    "**.p",
    "a.x.*",
    "b",
    "a",
    "a.x.p",
    "*",
    "a.z.w[1]",
]


def leaves(value, here=()):
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)


def place_of(leaf):
    """Where each text stands; old and new values name their place alike."""
    name = leaf.removesuffix("!")
    return {
        "ax.p": "a.x.p",
        "ax.q.r": "a.x.q.r",
        "ay": "a.y",
        "azw0": "a.z.w[0]",
        "azw1": "a.z.w[1]",
        "b.p": "b.p",
    }[name]


async def denied_gives_nothing(awaitable):
    try:
        return await awaitable
    except AccessDenied:
        return None


async def drain(watch):
    found = []
    while True:
        commit = watch._reader.next_nowait()
        if commit is None:
            return found
        found += watch._seen(commit)


async def everything_read(reader, world, since):
    """What comes out of every way to read, as (way, values)."""
    for path in ASKED:
        yield f"get {path}", await denied_gives_nothing(reader.get(path))
        made = await denied_gives_nothing(reader.read(path))
        yield f"read {path}", None if made is None else made.value
        yield f"get_many {path}", await denied_gives_nothing(reader.get_many([path]))
        history = await denied_gives_nothing(reader.history(path)) or []
        yield f"history {path}", [v for c in history for v in (c.old_value, c.value)]
        yield f"at {path}", await denied_gives_nothing(reader.at(since).get(path))
        async with reader.transaction() as tx:
            yield f"tx {path}", await denied_gives_nothing(tx.get(path))
    for pattern in PATTERNS:
        yield f"scan {pattern}", [v async for _, v in reader.scan(pattern)]
        yield f"at scan {pattern}", [v async for _, v in reader.at(since).scan(pattern)]
        async with reader.watch(pattern, since=0) as watch:
            changes = await drain(watch)
            yield (
                f"watch {pattern}",
                [v for c in changes for v in (c.old_value, c.value)],
            )


@settings(max_examples=40, deadline=None)
@given(reading)
def test_no_way_to_read_shows_what_the_policy_denies(rules):
    """S15, X5: by no method of a handle, a past state or a transaction."""
    import asyncio

    policy = Policy(rules)
    identity = agent("r", "reader")

    async def check():
        world = make_world(policy)
        reader = world.as_(identity)
        for path, value in DOCUMENTS.items():
            await world.state.set(path, value)
        since = await world.state.revision()
        await world.state.set("a.x.p", "ax.p!")
        await world.state.set("a.z.w[0]", "azw0!")
        await world.state.set("b", {"p": "b.p!"})
        await world.state.delete("a.y")
        async for way, value in everything_read(reader, world, since):
            for leaf in leaves(value):
                where = place_of(leaf)
                assert policy.allows(identity, where, "read"), (way, leaf)
        for path in ASKED:
            if policy.allows(identity, path, "read"):
                assert await reader.get(path) == await world.state.get(path)
                mine = await reader.history(path)
                assert mine == await world.state.history(path)
        for pattern in PATTERNS:
            expected = [
                key
                for key in await world.state.keys(pattern)
                if policy.allows(identity, key, "read")
            ]
            assert await reader.keys(pattern) == expected
            async with (
                reader.watch(pattern, since=0) as mine,
                world.state.watch(pattern, since=0) as all_of_it,
            ):
                assert await drain(mine) == [
                    change
                    for change in await drain(all_of_it)
                    if policy.allows(identity, change.path, "read")
                ]

    asyncio.run(check())


async def test_what_may_not_be_read_is_not_told_apart_from_what_is_not_there():
    """S15: denial leaks neither value nor version nor existence."""
    world = make_world(Policy([("pulse", "open", "rw")]))
    ada = world.as_(agent("ada"))
    await world.state.set("secret", {"x": 1})

    async def outcomes(path):
        found = []
        for way in (
            ada.get(path),
            ada.get(path, 5),
            ada.read(path),
            ada.get_many([path]),
            ada.history(path),
            ada.at(await world.state.revision()).get(path),
            ada.set(path, 1),
            ada.set(path, 1, expected_version=3),
            ada.set(path, 1, if_absent=True),
            ada.update(path, lambda old: old),
            ada.delete(path),
            ada.increment(path),
            ada.compare_and_set(path, ABSENT, 1),
        ):
            with pytest.raises(AccessDenied) as caught:
                await way
            found.append(str(caught.value).replace(path, "…"))
        return found

    assert await outcomes("secret") == await outcomes("nothing")
    assert await dump(world.kernel) == {"secret": {"x": 1}}

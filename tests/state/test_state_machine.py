"""Random operations through a handle, against a plain dictionary of documents."""

import asyncio
import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm.errors import ConflictError, InvalidValue, LimitExceeded, PathConflict
from swarm.model import ABSENT, canonical, dig
from swarm.model._path import Path
from swarm.state._merge import deep_merge
from tests.support.state import make_world
from tests.support.strategies import few_values

TEXTS = ["a", "b", "a.b", "a.b.c", "a.c", "b[0]", "b.x", "a.b[1]", "c.d.e", "a.b.c.d"]
texts = st.sampled_from(TEXTS)


class Model:
    """The tree as a dict from tuples of names to values."""

    def __init__(self, documents=()):
        self.documents = dict(documents)

    def around(self, path):
        for n in range(len(path), 0, -1):
            if path[:n] in self.documents:
                return path[:n]
        return None

    def get(self, path):
        home = self.around(path)
        if home is not None:
            return dig(self.documents[home], path[len(home) :])
        below = {p: v for p, v in self.documents.items() if p[: len(path)] == path}
        whole = {}
        for place, value in below.items():
            node = whole
            for step in place[len(path) : -1]:
                node = node.setdefault(step, {})
            node[place[-1]] = value
        return whole if below else ABSENT

    def set(self, path, value):
        """Put the value there, or return False where that cannot be."""
        home = self.around(path)
        if home is None:
            if self.get(path) is not ABSENT or any(type(s) is int for s in path):
                return False
            self.documents[path] = value
            return True
        if home == path:
            self.documents[path] = value
            return True
        whole = copy.deepcopy(self.documents[home])
        node = whole
        *way, last = path[len(home) :]
        for n, step in enumerate(way):
            after = [*way, last][n + 1]
            if type(node) is dict and type(step) is str:
                if step not in node:
                    if type(after) is int:
                        return False
                    node[step] = {}
                node = node[step]
            elif type(node) is list and type(step) is int and step < len(node):
                node = node[step]
            elif type(node) is list and step == len(node) and type(after) is str:
                node.append({})
                node = node[step]
            else:
                return False
        if (type(node) is dict and type(last) is str) or (
            type(node) is list and type(last) is int and last < len(node)
        ):
            node[last] = value
        elif type(node) is list and type(last) is int and last == len(node):
            node.append(value)
        else:
            return False
        self.documents[home] = whole
        return True

    def delete(self, path):
        """Return whether it was there, or None for a folder."""
        home = self.around(path)
        if home is None:
            return False if self.get(path) is ABSENT else None
        if home == path:
            del self.documents[path]
            return True
        whole = copy.deepcopy(self.documents[home])
        holder = dig(whole, path[len(home) : -1])
        if dig(whole, path[len(home) :]) is ABSENT:
            return False
        del holder[path[-1]]
        self.documents[home] = whole
        return True


def same(one, other):
    if one is ABSENT or other is ABSENT:
        return one is other
    return canonical(one) == canonical(other)


class StateMachine(RuleBasedStateMachine):
    """S1, S2, S7, S8, S20, S21: every operation, and what every way to read shows."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = self.run(self.open())
        self.state = self.world.state
        self.model = Model()
        self.revision = 0

    async def open(self):
        return make_world()

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def teardown(self):
        self.run(self.world.kernel.close())
        self.loop.close()

    def written(self, coroutine, model):
        """What worked in the model works, and what did not raises PathConflict."""
        if model is None:
            with pytest.raises(PathConflict):
                self.run(coroutine)
            return None
        made = self.run(coroutine)
        self.model = model
        self.revision += 1
        return made

    def after_setting(self, text, value):
        model = Model(self.model.documents)
        return (
            model
            if model.set(Path.parse(text).segments, copy.deepcopy(value))
            else None
        )

    @rule(text=texts, value=few_values)
    def set(self, text, value):
        made = self.written(
            self.state.set(text, value), self.after_setting(text, value)
        )
        if made is not None:
            assert (made.value, made.version) == (value, self.revision)

    @rule(text=texts, patch=few_values)
    def merge(self, text, patch):
        path = Path.parse(text).segments
        current = self.model.get(path) if self.model.around(path) else ABSENT
        value = deep_merge(current, patch)
        self.written(
            self.state.set(text, patch, merge=True), self.after_setting(text, value)
        )

    @rule(text=texts, value=few_values)
    def update(self, text, value):
        seen = []
        coroutine = self.state.update(text, lambda old: seen.append(old) or value)
        before = self.model.get(Path.parse(text).segments)
        self.written(coroutine, self.after_setting(text, value))
        assert same(seen[0], None if before is ABSENT else before)

    @rule(text=texts, by=st.integers(-2, 2))
    def increment(self, text, by):
        path = Path.parse(text).segments
        current = self.model.get(path) if self.model.around(path) else ABSENT
        if current is ABSENT or type(current) is int:
            number = by if current is ABSENT else current + by
            made = self.written(
                self.state.increment(text, by), self.after_setting(text, number)
            )
            assert made in (None, number)
        else:
            with pytest.raises((InvalidValue, LimitExceeded)):
                self.run(self.state.increment(text, by))

    @rule(text=texts, old=st.just(ABSENT) | few_values, new=few_values)
    def compare_and_set(self, text, old, new):
        path = Path.parse(text).segments
        current = self.model.get(path) if self.model.around(path) else ABSENT
        if same(current, old):
            self.written(
                self.state.compare_and_set(text, old, new),
                self.after_setting(text, new),
            )
        else:
            assert not self.run(self.state.compare_and_set(text, old, new))

    @rule(text=texts, value=few_values, right=st.booleans())
    def set_if_version(self, text, value, right):
        home = self.model.around(Path.parse(text).segments)
        current = 0
        if home is not None:
            current = self.run(self.state.read(Path.of(*home).text)).version
        coroutine = self.state.set(
            text, value, expected_version=current if right else current + 1
        )
        inside = home is not None or right
        if right and inside:
            self.written(coroutine, self.after_setting(text, value))
        else:
            with pytest.raises(ConflictError):
                self.run(coroutine)

    @rule(text=texts, value=few_values)
    def set_if_absent(self, text, value):
        path = Path.parse(text).segments
        if self.model.around(path) and self.model.get(path) is not ABSENT:
            with pytest.raises(ConflictError):
                self.run(self.state.set(text, value, if_absent=True))
        else:
            self.written(
                self.state.set(text, value, if_absent=True),
                self.after_setting(text, value),
            )

    @rule(values=st.dictionaries(texts, few_values, min_size=1, max_size=3))
    def set_many(self, values):
        model = Model(self.model.documents)
        good = all(
            model.set(Path.parse(text).segments, copy.deepcopy(value))
            for text, value in values.items()
        )
        self.written(self.state.set_many(values), model if good else None)

    @rule(text=texts)
    def delete(self, text):
        model = Model(self.model.documents)
        there = model.delete(Path.parse(text).segments)
        if there is False:
            assert self.run(self.state.delete(text)) is False
        else:
            self.written(self.state.delete(text), model if there else None)

    @rule(text=texts)
    def delete_recursively(self, text):
        path = Path.parse(text).segments
        model = Model(self.model.documents)
        there = model.delete(path)
        if there is None:
            for place in list(model.documents):
                if place[: len(path)] == path:
                    del model.documents[place]
        if there is False:
            assert not self.run(self.state.delete(text, recursive=True))
        else:
            assert self.written(self.state.delete(text, recursive=True), model)

    @rule(some=st.lists(texts, min_size=1, max_size=3))
    def delete_many(self, some):
        model = Model(self.model.documents)
        gone = [model.delete(Path.parse(text).segments) for text in some]
        if None in gone:
            self.written(self.state.delete_many(some), None)
        elif not any(gone):
            assert self.run(self.state.delete_many(some)) == 0
        else:
            assert self.written(self.state.delete_many(some), model) == sum(gone)

    @rule(
        deletions=st.lists(texts, max_size=2),
        puts=st.dictionaries(texts, few_values, max_size=2),
    )
    def transaction(self, deletions, puts):
        model = Model(self.model.documents)
        good = all(model.delete(Path.parse(t).segments) is not None for t in deletions)
        good = good and all(
            model.set(Path.parse(text).segments, copy.deepcopy(value))
            for text, value in puts.items()
        )

        async def block():
            async with self.state.transaction() as tx:
                for text in deletions:
                    await tx.delete(text)
                for text, value in puts.items():
                    await tx.set(text, value)
                for text in TEXTS:
                    expected = model.get(Path.parse(text).segments)
                    found = await tx.get(text)
                    assert same(found, None if expected is ABSENT else expected)

        if good and not puts and model.documents == self.model.documents:
            self.run(block())
        else:
            self.written(block(), model if good else None)

    @invariant()
    def every_way_to_read_agrees(self):
        everything = dict.fromkeys(TEXTS)
        many = self.run(self.state.get_many(everything))
        for text in TEXTS:
            expected = self.model.get(Path.parse(text).segments)
            found = self.run(self.state.get(text, "nothing here"))
            read = self.run(self.state.read(text))
            if expected is ABSENT:
                assert found == "nothing here"
                assert read is None
                assert text not in many
            else:
                assert same(found, expected)
                assert same(read.value, expected)
                assert same(many[text], expected)
                assert 0 < read.version <= self.revision
        assert self.run(self.state.revision()) == self.revision
        documents = sorted(Path.of(*p) for p in self.model.documents)
        assert self.run(self.state.keys()) == [path.text for path in documents]


StateMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None
)
TestState = StateMachine.TestCase


@pytest.mark.slow
class TestStateLong(StateMachine.TestCase):
    settings = settings(max_examples=400, stateful_step_count=50, deadline=None)

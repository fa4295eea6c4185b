"""Commits, their history and every earlier state, against full copies of a dict."""

import asyncio
import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm.errors import Compacted, ConflictError, PathConflict
from swarm.kernel import MemoryKernel
from swarm.model import ROOT, Path, to_change
from swarm.ports import Expect, Limits, Write
from swarm.testing.contracts._base import ADA
from tests.support.clock import FakeClock

PATHS = ["a", "a.b", "a.b.c", "a.c", "b", "c.d"]
paths = st.sampled_from(PATHS)


def run(loop, coroutine):
    return loop.run_until_complete(coroutine)


def is_free(documents, path):
    return not any(
        p != path and (p.startswith(path + ".") or path.startswith(p + "."))
        for p in documents
    )


class CommitMachine(RuleBasedStateMachine):
    """S2, S3, S4, S7, S10, S11, S17: the kernel against a list of whole states."""

    LOG = 8

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.kernel = run(self.loop, self.make())
        self.reader = run(self.loop, self.kernel.follow())
        self.now = {}  # path -> (value, version, expires)
        self.states = [(0, {})]
        self.mirror = {}

    async def make(self):
        return MemoryKernel(self.clock, Limits(log_commits=self.LOG))

    def teardown(self):
        run(self.loop, self.kernel.close())
        self.loop.close()

    def saw(self, revision, after):
        """One commit made this of the state."""
        assert revision > self.states[-1][0]
        self.now = after
        self.states.append((revision, dict(after)))

    @rule(
        writes=st.dictionaries(
            paths,
            st.one_of(
                st.none(), st.tuples(st.integers(0, 5), st.sampled_from([0, 3, 9]))
            ),
            max_size=4,
        ),
        expect=st.dictionaries(
            paths, st.sampled_from(["right", "absent", "old"]), max_size=2
        ),
        events=st.booleans(),
    )
    def commit(self, writes, expect, events):
        conditions, holds = [], True
        for path, kind in expect.items():
            current = self.now[path][1] if path in self.now else 0
            wanted = {"right": current, "absent": 0, "old": current - 1}[kind]
            conditions.append(Expect(Path.parse(path), wanted))
            holds = holds and wanted == current
        after = dict(self.now)
        for path, value in writes.items():
            if value is None:
                after.pop(path, None)
        free = True
        moment = self.kernel.now()
        for path, value in writes.items():
            if value is not None:
                free = free and is_free(after, path)
                ends = moment + value[1] * 1_000_000 if value[1] else None
                after[path] = (value[0], None, ends)
        batch = [
            Write(Path.parse(path))
            if value is None
            else Write(
                Path.parse(path),
                b"%d" % value[0],
                expires=after[path][2] if free else None,
            )
            for path, value in writes.items()
        ]
        try:
            commit = run(
                self.loop,
                self.kernel.commit(
                    ADA, batch, conditions=conditions, events=["e"] if events else []
                ),
            )
        except ConflictError:
            assert not holds
            return
        except PathConflict:
            assert holds
            assert not free
            return
        assert holds
        assert free
        is_noop = not events and all(
            value is None and path not in self.now for path, value in writes.items()
        )
        assert (commit is None) == is_noop
        if commit is not None:
            for path, value in writes.items():
                if value is not None:
                    after[path] = (value[0], commit.revision, after[path][2])
            self.saw(commit.revision, after)

    @rule(path=paths, value=st.integers(0, 5))
    def put(self, path, value):
        inside = any(path.startswith(p + ".") for p in self.now)
        try:
            made = run(self.loop, self.kernel.put(ADA, Path.parse(path), b"%d" % value))
        except PathConflict:
            assert any(p.startswith(path + ".") for p in self.now)
            return
        assert (made is None) == inside
        if made is not None:
            self.saw(made.version, {**self.now, path: (value, made.version, None)})

    @rule(seconds=st.sampled_from([1, 2, 4]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        revision = run(self.loop, self.kernel.read(lambda view: view.revision))
        due = sorted(
            (ends, path)
            for path, (_, _, ends) in self.now.items()
            if ends is not None and ends <= self.kernel.now()
        )
        for n, (_, path) in enumerate(due):
            after = dict(self.now)
            del after[path]
            self.saw(revision - len(due) + n + 1, after)

    @invariant()
    def what_stands_is_what_was_written(self):
        found = run(
            self.loop,
            self.kernel.read(
                lambda v: {
                    d.path.text: (d.value, d.version, d.expires)
                    for d in v.documents(ROOT)
                }
            ),
        )
        assert found == self.now

    @invariant()
    def every_retained_state_can_be_read_and_no_other(self):
        """S10: contiguous back to the compaction point, an error below it."""
        for n, (revision, state) in enumerate(self.states):
            try:
                view = run(self.loop, self.kernel.view_at(revision))
            except Compacted:
                assert n < len(self.states) - self.LOG - 1
                continue
            assert n >= len(self.states) - self.LOG - 1
            found = {
                d.path.text: (d.value, d.version, d.expires)
                for d in view.documents(ROOT)
            }
            assert found == state
            for path in PATHS:
                document = view.find(Path.parse(path))
                around = [p for p in state if p == path or path.startswith(p + ".")]
                assert (None if document is None else document.path.text) == (
                    around[0] if around else None
                )
            below = {d.path.text for d in view.below(Path.parse("a"))}
            assert below == {p for p in state if p.startswith("a.")}

    @invariant()
    def versions_are_contiguous(self):
        """S10: each begins at the version the one before it made."""
        for path in PATHS:
            versions = run(self.loop, self.kernel.versions(Path.parse(path), 100))
            changes = [to_change(d) for d in reversed(versions)]
            for one, two in itertools.pairwise(changes):
                assert two.old_version == one.new_version
                assert two.old_value == one.value or not two.old_version
            expected = self.now.get(path, (None, 0))[1]
            assert (changes[-1].new_version if changes else 0) == expected

    @invariant()
    def a_follower_arrives_at_the_same_state(self):
        """S11: applying every commit in order gives the present."""
        while (commit := self.reader.next_nowait()) is not None:
            for document in commit.documents:
                self.mirror.pop(document.path.text, None)
                if not document.is_deleted:
                    self.mirror[document.path.text] = (
                        document.value,
                        document.version,
                        document.expires,
                    )
        assert self.mirror == self.now
        assert self.reader.position == self.states[-1][0]


CommitMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None
)
TestCommits = CommitMachine.TestCase

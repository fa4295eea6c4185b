"""Cycles of waits that go through asks to other processes.

A request that is not answered soon is followed (Chandy, Misra and Haas, 1983): a probe
goes to the process that serves it, which looks in its own wait-for graph for what the
request waits for. Where that is a request to a third process, or a lock that another
one holds, the probe goes on. A probe that comes back to its request has found a cycle,
and carries its parties. Of the requests in it, only the newest fails.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final

from swarm.agents import Host
from swarm.coordination import AnyOf, Coordination, Obstacle
from swarm.errors import DeadlockError
from swarm.ports import Timer
from swarm.processes._answers import Answers
from swarm.processes._calls import Calls, RemoteCall
from swarm.processes._post import Post
from swarm.processes._process_record import process_of

SOON: Final = 0.5
"""Seconds without an answer after which a request is followed, and again each time."""

_LONGEST: Final = 32
"""Maximum number of requests in a cycle."""


class Probes:
    """Follows the requests of this process, and the probes of others through it."""

    def __init__(
        self,
        host: Host,
        calls: Calls,
        answers: Answers,
        coordination: Coordination,
        post: Post,
    ) -> None:
        """Follow what is asked from now on."""
        self._host = host
        self._calls = calls
        self._answers = answers
        self._coordination = coordination
        self._post = post
        self._timer: Timer | None = None
        calls.on_wait = self._look_later
        post.handlers["probe"] = self._take

    # --- following one's own requests -------------------------------------------------

    def _look_later(self) -> None:
        if self._timer is None:
            when = self._host.now() + SOON
            self._timer = self._host.clock.call_at(when, self._look)

    def _look(self) -> None:
        """Follow every request that has waited for long enough."""
        self._timer = None
        if self._host.closed_error() is not None:
            return
        now, waits = self._host.now(), False
        for call in tuple(self._calls.open.values()):
            if call.party is None:
                continue  # no party can wait for its sender
            waits = True
            if now - call.since >= SOON:
                me = self._post.process
                line = f"{call.party} waits for {call.describe_wait()}"
                path = [[me, call.id, call.at]]
                self._send(call.process, {"call": call.id}, path, [line])
        if waits:
            self._look_later()

    def _send(
        self,
        process: str,
        goal: dict[str, Any],
        path: list[list[Any]],
        lines: list[str],
    ) -> None:
        message = {"goal": goal, "path": path, "lines": lines}
        self._post.mention(process, "probe", message)

    def close(self) -> None:
        """Follow nothing any more."""
        self._calls.on_wait = _nothing
        if self._timer is not None:
            self._timer.cancel()

    # --- what comes through -----------------------------------------------------------

    def _take(self, sender: str, message: dict[str, Any]) -> None:
        """Send a probe on to what its goal waits for, or find that it has come back."""
        path, lines, me = message["path"], message["lines"], self._post.process
        for thing, told in self._search(self._starts(sender, message["goal"])):
            so_far = [*lines, *told]
            if not isinstance(thing, RemoteCall):
                for grant in self._coordination.grants_elsewhere(thing):
                    self._send(process_of(grant), {"grant": grant}, path, so_far)
                continue
            if [me, thing.id] == path[0][:2]:
                self._found(thing, path, lines + told[:-1])
            elif len(path) < _LONGEST and [me, thing.id, thing.at] not in path:
                longer = [*path, [me, thing.id, thing.at]]
                self._send(thing.process, {"call": thing.id}, longer, so_far)

    def _starts(self, sender: str, goal: dict[str, Any]) -> Iterable[Hashable]:
        """Return the parties that have to go on before the goal is reached."""
        if "grant" in goal:
            holder = self._coordination.holder_of(goal["grant"])
            return () if holder is None else (holder,)
        envelope = self._answers.request(sender, goal["call"])
        return () if envelope is None else envelope.blockers()

    def _search(
        self, starts: Iterable[Hashable]
    ) -> Iterator[tuple[Obstacle, list[str]]]:
        """Yield what parties wait for, and what those wait for, with the way there.

        Where some of several parties would do, nothing is followed: no alarm is raised
        for what may go on.
        """
        graph = self._host.graph
        seen: set[Hashable] = set()
        frontier: deque[tuple[Hashable, list[str]]] = deque((p, []) for p in starts)
        while frontier:
            party, lines = frontier.popleft()
            if party in seen:
                continue
            seen.add(party)
            for thing in graph.waits_and_joins(party):
                told = [*lines, f"{party} waits for {thing.describe_wait()}"]
                yield thing, told
                blockers = thing.blockers()
                if not isinstance(blockers, AnyOf):
                    frontier.extend((blocker, told) for blocker in blockers)

    def _found(self, call: RemoteCall, path: list[list[Any]], lines: list[str]) -> None:
        """Fail a request that closes a cycle, if it is the newest of them."""
        newest = max(path, key=lambda hop: (hop[2], hop[0], hop[1]))
        if newest == path[0] and not call.is_decided():
            self._calls.drop(call, DeadlockError(cycle=lines))


def _nothing() -> None:
    """Do nothing."""

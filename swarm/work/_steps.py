"""Durable steps: parts of a task that run once, whatever happens to its workers."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import attrs
import orjson

from swarm.errors import InvalidTransition, StaleClaim, StepMismatch
from swarm.model import Path, canonical, check_text, kept_json, shown
from swarm.ports import (
    HARD_DOCUMENT_BYTES,
    Codec,
    Condition,
    Limits,
    StepCall,
    View,
    Write,
)
from swarm.work._held_claim import HeldClaim
from swarm.work._submit_rules import encoded

_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_FAITHFUL: Final = _SCALARS - {float}
_ARGUMENTS: Final = Codec(Limits(document_bytes=HARD_DOCUMENT_BYTES, depth=250))

_SHORT: Final = 64
"""Up to how many bytes the arguments of a step are recorded as they are."""

STEPS: Final = Path.of("task_steps")


@attrs.define(eq=False, weakref_slot=False)
class StepScope:
    """A durable step that is running; what is added here is committed with it.

    Attributes:
        claim: The claim it runs under.
        name: Its name.
        writes: More documents to write in the commit that records it.
        conditions: More conditions of that commit.
    """

    claim: HeldClaim
    name: str
    writes: Sequence[Write] = ()
    conditions: Sequence[Condition] = ()

    @property
    def key(self) -> str:
        """The step's idempotency key: the same in every attempt."""
        return f"{self.claim.task_id}:{self.name}"


current_step: ContextVar[StepScope | None] = ContextVar("swarm_step", default=None)
"""The durable step whose function is running, or None."""


def idempotency_key() -> str:
    """Return the key of the running durable step: the same in every attempt.

    Hand it to an outside service that refuses to do the same thing twice.

    Raises:
        RuntimeError: No durable step is running here.
    """
    scope = current_step.get()
    if scope is None:
        raise RuntimeError("idempotency_key() is for functions run by claim.step()")
    return scope.key


def step_path(folder: Path, name: str) -> Path:
    """Return where the record of a step stands."""
    if name.isidentifier() and len(name) <= 64:  # most are, and need no check
        return Path((*folder.segments, name), f"{folder.text}.{name}")
    return folder.child(name)


def step_body(mark: bytes, result: bytes) -> bytes:
    """Return what records a step: the mark of its arguments and its result's JSON."""
    return b'{"arguments":%b,"result":%b}' % (mark, result)


def mark_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return as JSON what tells a step's arguments from others: they, or their hash."""
    for argument in (*args, *kwargs.values()) if kwargs else args:
        if argument.__class__ not in _FAITHFUL:
            # orjson does not survive deep tuples, and writes NaN as null.
            _ARGUMENTS.encode(argument)
    mark = canonical([args, kwargs])
    return mark if len(mark) <= _SHORT else b'"%b"' % fingerprint(mark).encode()


def fingerprint(body: bytes) -> str:
    """Return 32 characters that tell some bytes from others."""
    return hashlib.sha256(body).hexdigest()[:32]


class StepLog:
    """The steps of one task, as the holder of its live claim knows them.

    Only the holder writes steps, so what was read once and recorded here since is all.
    A call of a step is one of three: recorded, and the result is returned; running, and
    the call is refused; or new, and the function is run and its result recorded.
    """

    def __init__(self, claim: HeldClaim) -> None:
        """Know of none yet."""
        self._claim = claim
        self._folder = claim.folder_in(STEPS)
        self._recorded: dict[str, tuple[bytes, bytes]] = {}
        self._is_loaded = not claim.may_have_steps()
        self._running: set[str] = set()

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Do what `Claim.step` does."""
        check_text("the name of a step", name)
        if not callable(function):
            raise TypeError(f"a step runs a function, not {shown(function)}")
        try:
            mark = mark_of(args, kwargs)
        except TypeError:
            codec, what = self._claim.manager.codec, f"the arguments of step {name!r}"
            encoded(codec, what, [args, kwargs])  # says what is wrong
            raise
        if not self._is_loaded:
            await self._load()
        found = self._recorded.get(name)
        if found is None:
            return await self._record(name, mark, function, args, kwargs)
        if found[0] != mark:
            raise StepMismatch(
                f"step {name!r} of task {self._claim.task_id} was recorded with other "
                "arguments; give a step that does other work another name"
            )
        return orjson.loads(found[1])

    async def _load(self) -> None:
        """Read the steps that earlier claims of the task have recorded."""
        found = await self._claim.manager.kernel.read(_steps_in, self._folder)
        for name, body in found:
            value = orjson.loads(body)
            earlier = canonical(value["arguments"]), kept_json(value["result"])
            self._recorded.setdefault(name, earlier)
        self._is_loaded = True

    async def _record(
        self,
        name: str,
        mark: bytes,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run the function of a new step, and record its result; return that."""
        claim = self._claim
        manager = claim.manager
        if name in self._running:
            raise InvalidTransition(
                f"step {name!r} of task {claim.task_id} is running: a step is asked "
                "for again once it has ended, and a concurrent one has another name"
            )
        scope = StepScope(claim, name)
        self._running.add(name)
        try:
            result = await self._call(scope, function, args, kwargs)
            body = encoded(manager.codec, "the result of a step", result)
            path = step_path(self._folder, name)
            try:
                local = manager.local
                if local is not None and manager.is_direct and not scope.writes:
                    claim.check_now(local)
                    local.put_now(claim.identity, path, step_body(mark, body))
                    self._recorded[name] = mark, body
                else:
                    # What the function has done is paid for: no cancellation loses it.
                    await manager.to_its_end(self._commit(scope, path, mark, body))
            except StaleClaim as error:
                claim.lose(str(error))
                raise
        finally:
            self._running.remove(name)
        return result if result.__class__ in _SCALARS else orjson.loads(body)

    async def _call(
        self,
        scope: StepScope,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run the function inside its step, with interceptors around if there are."""
        around = self._claim.manager.interceptors
        token = current_step.set(scope)
        try:
            if around is None or around.step is None:
                result = function(*args, **kwargs)
                if result.__class__ not in _SCALARS and inspect.isawaitable(result):
                    result = await result
                return result

            async def proceed(call: StepCall) -> Any:
                result = function(*call.args, **call.kwargs)
                return await result if inspect.isawaitable(result) else result

            call = StepCall(
                agent=self._claim.identity,
                task_id=self._claim.task_id,
                name=scope.name,
                args=args,
                kwargs=kwargs,
            )
            return await around.step(call, proceed)
        finally:
            current_step.reset(token)

    async def _commit(
        self, scope: StepScope, path: Path, mark: bytes, result: bytes
    ) -> None:
        """Record a step, with all that was added to it, while the claim is live."""
        claim = self._claim
        conditions = [*claim.conditions(), *scope.conditions]
        writes = [Write(path, step_body(mark, result)), *scope.writes]
        kernel = claim.manager.kernel
        await kernel.commit(claim.identity, writes, conditions=conditions)
        self._recorded[scope.name] = mark, result


def _steps_in(view: View, folder: Path) -> list[tuple[str, bytes]]:
    return [(str(found.path.name), found.json) for found in view.documents(folder)]

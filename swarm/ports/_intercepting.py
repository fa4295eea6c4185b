"""Running interceptors: composed, at once, and around the body of a block."""

import types
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from swarm.model import Cause, with_trace
from swarm.ports._activity import current_cause, current_trace
from swarm.ports._interceptors import AgentCall, Interceptor, Proceed

Around: TypeAlias = Callable[[Any, Proceed[Any]], Awaitable[Any]]
"""All interceptors of one operation, as one."""

_HOOKS: Final = (
    "spawn",
    "ask",
    "tell",
    "turn",
    "publish",
    "handle",
    "submit",
    "attempt",
    "step",
    "handoff",
)


def cause_of(call: AgentCall) -> Cause | None:
    """Return the cause of a call whose trace an interceptor changed; None: none did."""
    if call.trace == current_trace():
        return None
    return with_trace(current_cause(), call.trace)


class Interceptors:
    """The interceptors of one swarm, composed for each operation.

    Each attribute but `members` is None where no interceptor overrides the method.

    Attributes:
        members: The interceptors, outermost first.
    """

    __slots__ = (*_HOOKS, "members")

    spawn: Around | None
    ask: Around | None
    tell: Around | None
    turn: Around | None
    publish: Around | None
    handle: Around | None
    submit: Around | None
    attempt: Around | None
    step: Around | None
    handoff: Around | None

    def __init__(self, interceptors: Sequence[Interceptor] = ()) -> None:
        """Compose them; the first is outermost."""
        self.members: tuple[Interceptor, ...] = tuple(interceptors)
        for name in _HOOKS:
            default = getattr(Interceptor, name)
            methods = [
                getattr(each, name)
                for each in interceptors
                if getattr(type(each), name) is not default
            ]
            setattr(self, name, _composed(methods) if methods else None)


def checked_interceptors(interceptors: Iterable[Interceptor]) -> Interceptors | None:
    """Return the interceptors of a swarm as one; None: there are none.

    Raises:
        TypeError: One is not an `Interceptor`.
    """
    found = tuple(interceptors)
    for each in found:
        if not isinstance(each, Interceptor):
            raise TypeError(
                f"an interceptor is an instance of a subclass of swarm.Interceptor, "
                f"not {each!r}"
            )
    return Interceptors(found) if found else None


def _composed(methods: Sequence[Around]) -> Around:
    if len(methods) == 1:
        return methods[0]

    def around(call: Any, proceed: Proceed[Any]) -> Awaitable[Any]:
        for method in reversed(methods):
            proceed = partial(_through, method, proceed)
        return proceed(call)

    return around


def _through(method: Around, proceed: Proceed[Any], call: Any) -> Awaitable[Any]:
    return method(call, proceed)


# --- where the operation cannot be awaited --------------------------------------------


def run_at_once(around: Awaitable[Any], what: str) -> Any:
    """Return the result of intercepted code that must not wait.

    Raises:
        TypeError: It waits; `what` says around which operation.
    """
    steps = around.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    if isinstance(steps, Generator):
        steps.close()
    raise TypeError(f"an interceptor waits around {what}, which cannot wait")


_HERE: Final[Any] = object()


@types.coroutine
def _body() -> Generator[Any, Any, None]:
    yield _HERE


class InterceptedBlock:
    """Interceptors around the body of an `async with`, in the task of the body.

    They run as far as `proceed` in `enter`, and on from there in `leave`.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, around: Around, call: Any) -> None:
        """Surround a body; `call` is what it does."""

        async def surround() -> None:
            await around(call, _proceed)

        async def _proceed(_: Any) -> None:
            await _body()

        self._coroutine = surround()

    async def enter(self) -> None:
        """Run the interceptors as far as the body.

        Raises:
            RuntimeError: They returned without having awaited `proceed`.
            BaseException: What they raised.
        """
        if not await _until_body(self._coroutine, self._coroutine.send, None):
            raise RuntimeError("around an attempt, `proceed` is awaited once")

    async def leave(self, error: BaseException | None) -> None:
        """Run the rest; the body ended by `error`, or well.

        Raises:
            RuntimeError: They awaited `proceed` again.
            BaseException: What they raised; the body's error unless they caught it.
        """
        coroutine = self._coroutine
        if error is None:
            again = await _until_body(coroutine, coroutine.send, None)
        else:
            again = await _until_body(coroutine, coroutine.throw, error)
        if again:
            coroutine.close()
            raise RuntimeError("around an attempt, `proceed` is awaited once")


@types.coroutine
def _until_body(coroutine: Any, step: Any, given: Any) -> Generator[Any, Any, bool]:
    """Run a coroutine to the next body; return False when it ended instead."""
    while True:
        try:
            waits_for = step(given)
        except StopIteration:
            return False
        if waits_for is _HERE:
            return True
        try:
            step, given = coroutine.send, (yield waits_for)
        except BaseException as error:  # noqa: BLE001  # thrown into the coroutine
            step, given = coroutine.throw, error

"""An event loop whose time jumps to the next timer when there is nothing else to do."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from swarm.ports import Pause, Runtime, install_runtime


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError(
                "everybody waits and no timer is set: nothing can happen"
            )
        if timeout > 0:
            self.loop.virtual += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping takes no time; waiting for what cannot happen is an error."""

    pause: Pause | None = None
    """A scheduling point, for loops derived from this one."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.virtual = 1000.0
        super().__init__(selector)
        install_runtime(self, Runtime(wall_time=self.wall_time, pause=self.pause))

    def time(self) -> float:
        return self.virtual

    def wall_time(self) -> float:
        return self.virtual


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` in virtual time; fail if it leaves a task behind (G12)."""

    async def checked() -> Any:
        result = await main
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(checked())


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test run in virtual time."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return wrapper


async def turns(number: int = 1) -> None:
    """Let the loop run `number` times."""
    for _ in range(number):
        await asyncio.sleep(0)

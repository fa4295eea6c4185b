"""One program in this process: find its `main`, run it, turn signals into an end."""

import asyncio
import importlib
import importlib.util
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path as File
from typing import Any, Final

from swarm.errors import (
    Closed,
    SchemaVersionError,
    StateCorruption,
    StorageFailed,
    StorageInUse,
    StorageUnsupported,
)
from swarm.model import Path
from swarm.ports import View
from swarm.system import Coordinator, Swarm, coordinator_of

DONE, FAILED, USAGE, WORK_LEFT, STORE, INTERRUPTED = 0, 1, 2, 3, 5, 130
"""The exit codes of `swarm run`."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_TASKS: Final = Path.of("global", "tasks")
_OPEN: Final = ("pending", "running")

Main = Callable[..., Awaitable[object]]


class UsageError(Exception):
    """The command line names nothing that can be run."""


def find_main(target: str) -> Main:
    """Import a program and return its main function.

    Args:
        target: `FILE.py:FUNCTION` or `MODULE:FUNCTION`; without a function, `main`.

    Raises:
        UsageError: There is no such file, module or function.
        Exception: What the program raised while it was imported.
    """
    where, _, name = target.partition(":")
    name = name or "main"
    if not where.strip("."):
        raise UsageError(f"{target!r} names no file and no module")
    module = _import_file(File(where)) if where.endswith(".py") else _import(where)
    main = getattr(module, name, None)
    if main is None:
        raise UsageError(f"{where} has no function '{name}'")
    if not inspect.iscoroutinefunction(main):
        raise UsageError(f"{name} of {where} has to be an `async def`")
    needed = [
        each
        for each in inspect.signature(main).parameters.values()
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise UsageError(f"{name} of {where} takes one argument, the swarm, or none")
    found: Main = main
    return found


def _import_file(file: File) -> object:
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    sys.path.insert(0, str(file.parent.absolute()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _import(name: str) -> object:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {name}") from None
        raise


def run_program(target: str, storage: str, name: str, lifeline: int = -1) -> int:
    """Run a program in this process and return the exit code.

    Args:
        target: The program, as for `find_main`.
        storage: Where the tree of its swarm lives.
        name: The name of its swarm.
        lifeline: A file descriptor that is closed when the starter of this process has
            ended; that drains the program, as a signal does.
    """
    try:
        main = find_main(target)
        return asyncio.run(_Program(main, storage, name).run(lifeline))
    except BaseException as error:  # noqa: BLE001  # the exit code says it
        return failed(error)


def failed(error: BaseException) -> int:
    """Print why a program has failed and return the exit code."""
    if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        return INTERRUPTED
    if isinstance(error, (UsageError, StorageUnsupported)):
        return _say(error, USAGE)
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or DONE
        print(error.code, file=sys.stderr)
        return FAILED
    found = list(leaves(error))
    for each in found:
        if isinstance(each, (StorageInUse, StateCorruption, SchemaVersionError)):
            return _say(each, STORE)
    if len(found) == 1 and isinstance(error, StorageFailed):
        return _say(error, FAILED)
    traceback.print_exception(error)
    return FAILED


def _say(what: object, code: int) -> int:
    print(f"swarm run: {what}", file=sys.stderr, flush=True)
    return code


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, however deep; or the one exception."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for each in error.exceptions:
        yield from leaves(each)


class _Program:
    """A main function that runs, and what each signal does to it."""

    def __init__(self, main: Main, storage: str, name: str) -> None:
        self._main = main
        self._storage = storage
        self._name = name
        self._asked = 0
        self._work_left = 0
        self._takes_swarm = bool(inspect.signature(main).parameters)
        self._task: asyncio.Task[Any] | None = None
        self._coordinator: Coordinator | None = None

    async def run(self, lifeline: int) -> int:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for each in SIGNALS:
            loop.add_signal_handler(each, self._ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the starter blocked them
        if lifeline >= 0:
            loop.add_reader(lifeline, self._lost, loop, lifeline)
        try:
            if self._takes_swarm:
                await self._run_in_swarm()
            else:
                await self._main()
        except (asyncio.CancelledError, Closed):  # a swarm that ends spawns no agents
            if not self._asked:
                raise
        if self._asked > 1:
            return INTERRUPTED
        if not self._work_left:
            return DONE
        tasks = "1 task is" if self._work_left == 1 else f"{self._work_left} tasks are"
        return _say(f"{tasks} left undone", WORK_LEFT)

    async def _run_in_swarm(self) -> None:
        async with Swarm(self._name, self._storage) as swarm:
            coordinator = self._coordinator = coordinator_of(swarm)
            assert coordinator is not None
            coordinator.at_close(self._count_work)
            if self._asked:
                self._end()
            await self._main(swarm)

    def _count_work(self) -> None:
        assert self._coordinator is not None
        self._work_left = self._coordinator.tail.read_now(_open_tasks)

    def _lost(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        loop.remove_reader(lifeline)
        self._ask()

    def _ask(self) -> None:
        """Drain at the first signal, cancel at the second, leave at the third."""
        self._asked += 1
        if self._asked > 2:
            os._exit(INTERRUPTED)
        self._end()

    def _end(self) -> None:
        if self._coordinator is not None:
            self._coordinator.ask_end(drain=self._asked == 1)
        elif self._task is not None and (not self._takes_swarm or self._asked > 1):
            self._task.cancel()


def _open_tasks(view: View) -> int:
    """Return how many tasks of a swarm have yet to be done."""
    return sum(document.value.get("status") in _OPEN for document in view.below(_TASKS))

"""`swarm run`: a program in one process or several, on one storage.

Processes are started in groups of their own, so that Ctrl-C at the terminal reaches
only the starter, which passes it on. A process that dies is started again with growing
pauses; four deaths in a row, each within 30 s, end the program. A pipe tells the
processes when their starter has been killed; then they drain. The storage is passed on
by the environment: its URL may have a password, and every user can read command lines.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Final

from swarm.cli._program import (
    DONE,
    FAILED,
    INTERRUPTED,
    SIGNALS,
    STORE,
    USAGE,
    WORK_LEFT,
    failed,
    run_program,
)
from swarm.errors import SwarmError
from swarm.model import Backoff
from swarm.ports import Entropy, Limits, LoopClock
from swarm.storage import find_place, open_kernel

_BACKOFF: Final = Backoff(0.1, 5.0)
_MOST: Final = 4
_SOON: Final = 30.0
"""A process that dies so often in a row, each time so soon, ends the program."""

_HOPELESS: Final = (USAGE, STORE)
"""Exit codes of a process that would only end with the same again."""


def run(target: str, *, storage: str, processes: int, name: str) -> int:
    """Run a program and return the exit code.

    0: it has ended. 1: it failed. 2: there is no such program, or the options make no
    sense. 3: it has ended and left tasks undone. 5: the storage is in use or damaged.
    130: it was interrupted. The first Ctrl-C (or SIGTERM) lets agents finish what is
    queued, the second cancels them, the third leaves at once.

    Args:
        target: `FILE.py:FUNCTION` or `MODULE:FUNCTION`; the function is `async def
            main(swarm)`, or `async def main()` for one that opens its own swarm.
        storage: Where the tree of the swarm lives; a server for several processes.
        processes: How many processes run the program. One is this process.
        name: The name of the swarm.
    """
    if processes < 1:
        return _refuse("--processes takes a number from 1")
    if processes == 1:
        return run_program(target, storage, name)
    try:
        is_shared = bool(find_place(storage).server)
    except ValueError as error:
        return _refuse(str(error))
    if not is_shared:
        return _refuse(
            f"{processes} processes need a storage that they can share, such as "
            f"redis://localhost, not {storage}"
        )
    try:
        return asyncio.run(_run_processes(target, storage, name, processes))
    except (KeyboardInterrupt, SwarmError) as error:
        return failed(error)


async def _run_processes(target: str, storage: str, name: str, processes: int) -> int:
    """Open the tree once, so that one error tells that no process can, and run."""
    opened = await open_kernel(storage, name, LoopClock(), Entropy(), Limits())
    await opened.kernel.close()
    return await _Starter(target, storage, name).run(processes)


def _refuse(why: str) -> int:
    print(f"swarm run: {why}", file=sys.stderr)
    return USAGE


def _tell(text: str) -> None:
    print(f"swarm run: {text}", file=sys.stderr, flush=True)


class _Starter:
    """The processes of one program."""

    def __init__(self, target: str, storage: str, name: str) -> None:
        self._arguments = (target, name)
        self._storage = storage
        self._alive: dict[int, asyncio.subprocess.Process] = {}
        self._asked = 0
        self._code = DONE
        self._clock = LoopClock()
        self._entropy = Entropy()
        self._ending = asyncio.Event()
        self._starting = asyncio.Lock()

    async def run(self, processes: int) -> int:
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.add_signal_handler(each, self._ask)
        self._reading, self._writing = os.pipe()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(1, processes + 1):
                    group.create_task(self._keep(number))
        finally:
            os.close(self._reading)
            os.close(self._writing)
        return INTERRUPTED if self._asked > 1 else self._code

    async def _keep(self, number: int) -> None:
        """Run one process, and another one in its place when it dies."""
        deaths = 0
        while not self._ending.is_set():
            process = await self._start(number)
            began = self._clock.monotonic()
            code = await process.wait()
            del self._alive[number]
            if code in (DONE, WORK_LEFT) or self._ending.is_set():
                self._note(code)
                return
            deaths = deaths + 1 if self._clock.monotonic() - began < _SOON else 1
            how = f"process {number} {_how(code)}"
            if code in _HOPELESS or deaths >= _MOST:
                often = f", {deaths} times in a row" if deaths > 1 else ""
                _tell(f"{how}{often}; giving up")
                self._code = code if code in _HOPELESS else FAILED
                self._end()
                return
            pause = _BACKOFF.delay(deaths, self._entropy.jitter(0.0, 1.0))
            _tell(f"{how}; started again in {pause:.1f} s")
            await self._pause(pause)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        """Start a process whose signals are blocked until it can handle them."""
        async with self._starting:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "swarm.cli._worker", *self._arguments, str(self._reading)),
                    env={
                        **os.environ,
                        "SWARM_PROCESS": str(number),
                        "SWARM_STORAGE": self._storage,
                    },
                    pass_fds=(self._reading,),
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._alive[number] = process
        if self._ending.is_set():
            self._interrupt(process)
        return process

    def _note(self, code: int) -> None:
        """Take the exit code of a process that is not started again.

        Of the processes that ended well, the last one knows what work is left.
        """
        if self._code in (DONE, WORK_LEFT):
            self._code = code if code in (DONE, WORK_LEFT) else FAILED

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the first signal."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def _ask(self) -> None:
        """Pass a signal on; at the third, leave at once."""
        self._asked += 1
        if self._asked == 1:
            _tell("ending; once more cancels, a third time leaves at once")
        if self._asked > 2:
            for process in self._alive.values():
                process.kill()
            os._exit(INTERRUPTED)
        self._end()

    def _end(self) -> None:
        self._ending.set()
        for process in self._alive.values():
            self._interrupt(process)

    @staticmethod
    def _interrupt(process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"

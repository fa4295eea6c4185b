"""Record a run: what the program asked of its swarm, when, and what came of it.

Arguments and results are written as JSON that says their classes. Nothing that is read
back is evaluated: a class is named, and its fields are listed.
"""

import asyncio
import dataclasses
import datetime
import enum
import math
import os
import sys
from collections.abc import Callable
from os import PathLike
from pathlib import Path as FilePath
from types import TracebackType
from typing import IO, Any, Final, Self
from weakref import WeakKeyDictionary

import attrs
import orjson

from swarm.agents import Ref
from swarm.bus import BusOptions
from swarm.model import OWNER, ROOT, Commit, Document, LockExpired, Path
from swarm.ports import (
    Activity,
    AgentCall,
    Interceptor,
    Limits,
    Proceed,
    PublishCall,
    SpawnCall,
    SubmitCall,
    View,
    current_activity,
)
from swarm.system._config import SwarmConfig
from swarm.system._coordinator import Coordinator

VERSION: Final = 1

KEPT_BY_SWARM: Final = frozenset(
    (
        "global",
        "locks",
        "semaphores",
        "barriers",
        "handoffs",
        "checkpoints",
        "pipelines",
        "subscriptions",
        "receipts",
        "dead_letters",
        "processes",
    )
)
"""Top-level folders that the program does not write itself."""

_KEPT_OF_AGENTS: Final = frozenset(("status", "progress", "resources", "errors"))


def is_kept_by_swarm(path: Path) -> bool:
    """Return whether the swarm itself writes the document at a path."""
    first = path.segments[0]
    if first == "agents":
        return len(path.segments) < 4 or path.segments[3] in _KEPT_OF_AGENTS
    return first in KEPT_BY_SWARM


def state_of(view: View) -> dict[str, Any]:
    """Return all documents that the program and its agents wrote, by path."""
    documents = view.documents(ROOT)
    return {
        document.path.text: orjson.loads(document.json)
        for document in sorted(documents, key=lambda each: each.path.text)
        if not is_kept_by_swarm(document.path)
    }


class Recording(Interceptor):
    """A run that is being written down; ends with the swarm, or by `stop`.

    See `Swarm.record`, which makes it. Each line of the file is a JSON object: an
    input with its number, its task and its time, the end of an input with its result
    or error, the beginning of a turn, a lease that expired, and at last how the run
    ended.
    """

    def __init__(self, coordinator: Coordinator, path: "str | PathLike[str]") -> None:
        """Write to a file, which is replaced; a new one is for this user only.

        Raises:
            OSError: The file cannot be written.
        """
        self._coordinator = coordinator
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: IO[bytes] | None = os.fdopen(file, "wb")
        self._began = coordinator.now()
        self._count = 0
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._error: BaseException | None = None
        self._state: dict[str, Any] | None = None
        self._write(
            "recording",
            version=VERSION,
            swarm=coordinator.name,
            python=".".join(map(str, sys.version_info[:3])),
            config=_changed(coordinator.config),
        )
        self._unlisten: Callable[[], None] = coordinator.tail.listen(
            self._committed, documents=True
        )
        coordinator.add_interceptor(self)
        coordinator.at_close(self.stop)

    def __repr__(self) -> str:
        state = "ended" if self._file is None else f"{self._count} inputs"
        return f"<Recording, {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.body_ended(error)
        self.stop()

    def body_ended(self, error: BaseException | None) -> None:
        """Note how the program's block ended, and the state at that moment."""
        if self._state is None and self._file is not None:
            self._error = error
            self._state = self._coordinator.tail.read_now(state_of)

    def stop(self) -> None:
        """Write how the run ended, and record nothing more; idempotent."""
        if self._file is None:
            return
        self._unlisten()
        self._coordinator.remove_interceptor(self)
        self.body_ended(None)
        failures = [encode_error(each) for each in self._coordinator.failures]
        error = None if self._error is None else encode_error(self._error)
        self._write("ended", error=error, failures=failures, state=self._state)
        self._file.close()
        self._file = None

    # --- lines ------------------------------------------------------------------------

    def _write(self, what: str, **fields: Any) -> None:
        if self._file is None:
            return
        seconds = round(self._coordinator.now() - self._began, 6)
        line = orjson.dumps({"do": what, "t": seconds, **fields}, default=str)
        self._file.write(line + b"\n")
        self._file.flush()

    def _input(self, what: str, **fields: Any) -> int:
        self._count += 1
        self._write(what, n=self._count, task=self._task_number(), **fields)
        return self._count

    def _task_number(self) -> int:
        task = asyncio.current_task()
        if task is None:
            return 0
        return self._tasks.setdefault(task, len(self._tasks) + 1)

    def _is_outside(self) -> bool:
        """Return whether the program itself runs, not an agent or a handler."""
        activity = current_activity.get()
        if activity is not None and (
            not isinstance(activity, Activity)
            or (activity.cause is not None and activity.cause.depth > 0)
        ):
            return False
        return self._file is not None and not self._coordinator.is_caller_inside()

    async def _around(self, call: Any, proceed: Proceed[Any], number: int) -> Any:
        try:
            result = await proceed(call)
        except BaseException as error:
            self._write("end", n=number, error=encode_error(error))
            raise
        self._write("end", n=number, result=encode_value(result))
        return result

    # --- what is recorded -------------------------------------------------------------

    async def spawn(self, call: SpawnCall, proceed: Proceed[SpawnCall]) -> Any:
        """Record a spawn of the program."""
        if not self._is_outside():
            return await proceed(call)
        number = self._input(
            "spawn",
            factory=encode_value(call.factory),
            args=encode_value([*call.args]),
            options=encode_value(dict(call.options)),
        )
        ref: Ref[Any] = await self._around(call, proceed, number)
        return ref

    async def ask(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Record an ask of the program."""
        return await self._request("ask", call, proceed)

    async def tell(self, call: AgentCall, proceed: Proceed[AgentCall]) -> None:
        """Record a tell of the program."""
        await self._request("tell", call, proceed)

    async def _request(
        self, what: str, call: AgentCall, proceed: Proceed[AgentCall]
    ) -> Any:
        if not self._is_outside():
            return await proceed(call)
        cell = self._coordinator.table.cells.get(call.agent.agent_id)
        method = call.method.rpartition(".")[2]
        number = self._input(
            what,
            agent=call.agent.agent_id,
            method=None if cell is None else f"{name_of(type(cell.agent))}.{method}",
            args=encode_value([*call.args]),
            kwargs=encode_value(dict(call.kwargs)),
        )
        return await self._around(call, proceed, number)

    async def turn(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Record that a turn begins."""
        self._write("turn", agent=call.agent.agent_id, method=call.method)
        return await proceed(call)

    async def publish(self, call: PublishCall, proceed: Proceed[PublishCall]) -> Any:
        """Record an event that the program publishes."""
        if not self._is_outside():
            return await proceed(call)
        payload = encode_value(call.payload)
        number = self._input("publish", payload=payload, key=call.key)
        return await self._around(call, proceed, number)

    async def submit(self, call: SubmitCall, proceed: Proceed[SubmitCall]) -> Any:
        """Record a task that the program submits."""
        if not self._is_outside():
            return await proceed(call)
        number = self._input(
            "submit",
            kind=call.kind,
            payload=encode_value(call.payload),
            metadata=encode_value(call.metadata),
            options=encode_value(dict(call.options)),
        )
        return await self._around(call, proceed, number)

    def _committed(self, commit: Commit) -> None:
        """Record leases of agents that expired, and what the program itself wrote.

        Called in the middle of a commit.
        """
        for payload in commit.events:
            if isinstance(payload, LockExpired) and payload.owner != OWNER.agent_id:
                self._write("fault", kind="expire", target=payload.resource)
        if commit.author != OWNER or not self._is_outside():
            return
        for document in commit.documents:
            if not is_kept_by_swarm(document.path):
                self._wrote(document)

    def _wrote(self, document: Document) -> None:
        path = document.path.text
        if document.is_deleted:
            number = self._input("delete", path=path)
        else:
            number = self._input("set", path=path, value=orjson.loads(document.json))
        self._write("end", n=number, result=None)


def _changed(config: SwarmConfig) -> dict[str, Any]:
    """Return the settings that are not the defaults; limits and parts are left out."""
    plain = SwarmConfig()
    return {
        field.name: getattr(config, field.name)
        for field in attrs.fields(SwarmConfig)
        if getattr(config, field.name) != getattr(plain, field.name)
        and not isinstance(getattr(config, field.name), (Limits, BusOptions))
        and field.name != "tasks"
    }


# --- values -------------------------------------------------------------------------

TAG: Final = "$"
"""The key of a dict that stands for something which is not JSON."""

_MOST: Final = 4_000
"""The most characters that are shown of a value that cannot be recorded."""


def module_of(thing: Any) -> str:
    """Return the module to import something from, also when it runs as a script."""
    module: str = getattr(thing, "__module__", "") or ""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return "__main__" if file is None else FilePath(file).stem


def name_of(thing: Any) -> str:
    """Return where a class or function is: "module:qualified.name"."""
    return f"{module_of(thing)}:{getattr(thing, '__qualname__', repr(thing))}"


def encode_value(value: Any) -> Any:
    """Return a value as JSON; what has no form of its own is kept as its repr."""
    if value is None or type(value) is bool or type(value) is str:
        return value
    if type(value) is int:
        return value if abs(value) < 2**63 else {TAG: "int", "text": str(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {TAG: "float", "text": str(value)}
    if type(value) is list:
        return [encode_value(each) for each in value]
    if type(value) is dict and TAG not in value:
        if all(type(key) is str for key in value):
            return {key: encode_value(each) for key, each in value.items()}
        return {TAG: "dict", "items": [encode_value([*pair]) for pair in value.items()]}
    if type(value) in (tuple, set, frozenset):
        kind = type(value).__name__
        return {TAG: kind, "items": [encode_value(each) for each in value]}
    return _encode_other(value)


def _encode_other(value: Any) -> Any:
    if isinstance(value, Ref):
        return {TAG: "ref", "name": value.name}
    if isinstance(value, enum.Enum):
        return {TAG: "enum", "class": name_of(type(value)), "name": value.name}
    if type(value) is bytes:
        return {TAG: "bytes", "hex": value.hex()}
    if type(value) is datetime.datetime:
        return {TAG: "datetime", "text": value.isoformat()}
    if type(value) is datetime.timedelta:
        return {TAG: "timedelta", "seconds": value.total_seconds()}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return {TAG: "name", "of": name_of(value)}
    fields = _fields_of(value)
    if fields is not None:
        encoded = {
            name: encode_value(getattr(value, attribute))
            for name, attribute in fields.items()
        }
        return {TAG: "new", "class": name_of(type(value)), "fields": encoded}
    return {TAG: "opaque", "type": name_of(type(value)), "repr": shown(value)}


def _fields_of(value: Any) -> dict[str, str] | None:
    """Return the arguments of a record's class, and its attributes of them.

    None: it is no record.
    """
    if dataclasses.is_dataclass(value):
        return {each.name: each.name for each in dataclasses.fields(value) if each.init}
    if attrs.has(type(value)):
        return {
            each.alias or each.name: each.name
            for each in attrs.fields(type(value))
            if each.init
        }
    return None


def shown(value: Any) -> str:
    """Return the repr of a value of the user, whatever it does."""
    try:
        return repr(value)[:_MOST]
    except Exception as error:  # noqa: BLE001  # the repr is user code
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON."""
    return {"class": name_of(type(error)), "message": str(error)[:_MOST]}

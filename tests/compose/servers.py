"""What holds with another server under the same workers: TLS alone, and one that is replaced when it dies."""

from __future__ import annotations

from tests.compose.load import Load
from tests.compose.stack import Failed, Stack, docker, say, wait_for

__all__ = ["sentinel", "tls"]

_PLAIN = """
import socket
with socket.create_connection(("redis", 6379), 5) as connection:
    connection.sendall(b"PING\\r\\n")
    try:
        print(connection.recv(100).startswith(b"+PONG"))
    except OSError:
        print(False)
"""

_UNKNOWN = """
import os, subprocess
environment = {**os.environ, "BARQUE_REDIS_URL": "rediss://redis:6379/0"}
del environment["BARQUE_REDIS_TLS_CA"]
done = subprocess.run(["barque", "status"], env=environment, capture_output=True, text=True)
print(done.returncode, "certificate is not accepted" in done.stdout + done.stderr)
"""


def tls(stack: Stack) -> None:
    """TLS alone: a plain connection is refused, an authority that is not named too, and jobs run."""
    stack.workers(2)
    if stack.ask("worker", _PLAIN) != "False":
        raise Failed("the server answers without TLS")
    if (found := stack.ask("worker", _UNKNOWN)) != "3 True":
        raise Failed(f"a certificate of an authority that nobody named: {found}")
    if (found := docker("exec", stack.containers("worker")[0], "ls", "/tls")) != "ca.pem":
        raise Failed(f"workers have more of the certificates than they need: {found}")
    stack.demo(workers=2)
    load = Load(stack)
    load.wait(100)
    load.finish().check(at_least=100)
    first = stack.server("--tls", "--cacert", "/tls/ca.pem", "info", "server")
    stack.compose("up", "--detach", "--no-build", "--force-recreate", "certificates", "redis")
    wait_for("the server healthy", lambda: stack.healthy("redis") == 1)
    second = stack.server("--tls", "--cacert", "/tls/ca.pem", "info", "server")
    if _line(first, "run_id") == _line(second, "run_id"):
        raise Failed("the server was not started anew: that shows nothing")
    stack.demo(workers=1)
    say("a plain connection is refused, and so is an authority nobody named; the same certificate after a second start")


def sentinel(stack: Stack) -> None:
    """The primary's container killed under load: another server takes its place, and jobs go on."""
    stack.workers(3)
    load = Load(stack)
    load.wait(50)
    old = stack.container("redis")
    before = _primary(stack)
    docker("kill", "--signal", "KILL", old)
    after = wait_for("another primary", lambda: _another(stack, before))
    load.wait(100)
    say(f"{after} has taken the place of {before}")
    docker("start", old)
    wait_for("the old primary to follow the new one", lambda: "role:slave" in stack.server("info", "replication"))
    load.wait(50)
    # Replication is asynchronous: outcomes may have gone with the old primary, so that jobs ran again.
    load.finish().check(at_least=200, lost_with=None)
    _restart(stack, after)


def _restart(stack: Stack, primary: str) -> None:
    """All six of them end and begin again: who was primary still is, with what it knew."""
    roles = ("redis", "redis-replica-1", "redis-replica-2", "sentinel-1", "sentinel-2", "sentinel-3")
    service = f"redis-replica-{int(primary.rpartition('.')[2]) - 11}"
    stack.server("set", "barque:compose-test", "kept", service=service)
    stack.server("wait", "2", "5000", service=service)
    ids = [stack.container(role) for role in roles]
    docker("kill", "--signal", "KILL", *ids)
    docker("start", *ids)
    wait_for("three sentinels that agree", lambda: all(stack.healthy(role) == 1 for role in roles))
    wait_for("two replicas", lambda: "connected_slaves:2" in stack.server("info", "replication", service=service))
    if _primary(stack) != primary:
        raise Failed(f"after all of them were killed the primary is {_primary(stack)} instead of {primary}")
    for role in roles[:3]:
        if stack.server("get", "barque:compose-test", service=role) != "kept":
            raise Failed(f"{role} forgot a key")
    stack.server("del", "barque:compose-test", service=service)
    stack.demo(workers=1)
    say("all six killed and started: the primary is still the same one, and knows what it knew")


def _primary(stack: Stack) -> str:
    said = stack.server(
        "-p", "26379", "sentinel", "get-master-addr-by-name", "barque", service="sentinel-2", check=False
    )
    return said.partition("\n")[0]


def _another(stack: Stack, before: str) -> str:
    now = _primary(stack)
    return now if now != before else ""


def _line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))

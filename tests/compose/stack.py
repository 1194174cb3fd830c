"""One project of docker compose: its services up, scaled, killed, asked and taken down again.

Owns all commands that are run. What is tried with them is the parts' business (parts.py, servers.py, watching.py), what
jobs came to is load.py's.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "Failed", "Stack", "answer", "docker", "find_compose", "running", "say", "wait_for"]

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0
"""Seconds that anything is waited for: far more than it needs on a busy machine."""

# Those of whoever runs this must not decide what is tried: `.env` is another file, see Stack.
_NOT_OURS = ("BARQUE_", "COMPOSE_", "DEMO_", "DASHBOARD_ADDRESS", "STOP_GRACE_PERIOD")


class Failed(Exception):
    """Something that docs/containers.md promises did not hold."""


def say(text: str) -> None:
    print(f"    {text}", flush=True)


def docker(*words: str, check: bool = True, **options) -> str:
    """Run the docker command; return what it printed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, **options)
    if check and done.returncode:
        raise Failed(f"docker {shlex.join(words)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def find_compose() -> list[str]:
    """Return the command there is: `docker compose`, else `docker-compose`."""
    for words in (["docker", "compose"], ["docker-compose"]):
        try:
            if subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0:
                return words
        except FileNotFoundError:
            continue
    raise Failed("there is neither `docker compose` nor `docker-compose`")


def wait_for(what: str, condition: Callable[[], object], *, within: float = PATIENCE):
    """Return what the condition returns, once that is true of it."""
    until = time.monotonic() + within
    while True:
        last = condition()
        if last:
            return last
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {within:.0f} s")
        time.sleep(0.5)


class Stack:
    """A project under a name of its own, of docker-compose.yml and what is laid over it."""

    def __init__(self, compose: Sequence[str], image: str, *over: str, settings: Mapping[str, str] | None = None):
        self._compose = list(compose)
        self.image = image
        self.name = f"barquetest{os.getpid()}{''.join(Path(file).stem for file in over)}"
        self._files = ["docker-compose.yml", *over, "tests/compose/load.yml"]
        self._profiles: set[str] = set()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)} | {
            "BARQUE_IMAGE": image,
            "BARQUE_CONCURRENCY": "10",
            "BARQUE_SHUTDOWN_GRACE": "5",
            "STOP_GRACE_PERIOD": "30s",
            "DASHBOARD_ADDRESS": "127.0.0.1:0",
            "PROMETHEUS_ADDRESS": "127.0.0.1:0",
            "GRAFANA_ADDRESS": "127.0.0.1:0",
            "SENTINEL_NETWORK": os.environ.get("SENTINEL_NETWORK", "172.31.251"),
            **(settings or {}),
        }
        descriptor, self._no_settings = tempfile.mkstemp(prefix="barque-compose-", suffix=".env")
        os.close(descriptor)

    def words(self, *words: str) -> list[str]:
        files = [word for file in self._files for word in ("-f", file)]
        profiles = [word for profile in sorted(self._profiles) for word in ("--profile", profile)]
        empty = ["--env-file", self._no_settings, "--project-directory", "."]
        return [*self._compose, *empty, "--project-name", self.name, *files, *profiles, *words]

    def compose(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            self.words(*words), cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise Failed(
                f"{shlex.join(self._compose)} {shlex.join(words)} ended with {done.returncode}: {done.stderr[-3000:]}"
            )
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command of compose's beside all else."""
        return subprocess.Popen(
            self.words(*words), cwd=ROOT, env=self._environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def add(self, profile: str, **settings: str) -> None:
        """Have a profile on from now on, with settings."""
        self._profiles.add(profile)
        self._environment |= settings

    def workers(self, count: int) -> list[str]:
        """Have so many, healthy; return their containers."""
        self.compose("up", "--detach", "--no-build", "--scale", f"worker={count}", "worker")
        wait_for(f"{count} healthy workers", lambda: self.healthy("worker") == count == len(self.containers("worker")))
        return self.containers("worker")

    def up(self, *services: str) -> None:
        self.compose("up", "--detach", "--no-build", "--no-deps", *services)
        for service in services:
            wait_for(f"{service} healthy", lambda service=service: self.healthy(service) == 1)

    def containers(self, service: str, *, stopped: bool = False) -> list[str]:
        labels = {"project": self.name, "service": service, "oneoff": "False"}
        filters = [
            word for key, value in labels.items() for word in ("--filter", f"label=com.docker.compose.{key}={value}")
        ]
        return docker("ps", "--quiet", *(["--all"] if stopped else []), *filters).split()

    def container(self, service: str, *, stopped: bool = False) -> str:
        found = self.containers(service, stopped=stopped)
        if len(found) != 1:
            raise Failed(f"{len(found)} containers of {service} instead of one")
        return found[0]

    def healthy(self, service: str) -> int:
        found = self.containers(service)
        if not found:
            return 0
        states = docker("inspect", "--format", "{{.State.Health.Status}}", *found, check=False).split()
        return states.count("healthy")

    def ask(self, service: str, program: str, *words: str) -> str:
        """Run a program of Python in a container; return what it prints."""
        return docker("exec", self.containers(service)[0], "python", "-c", program, *words)

    def server(self, *words: str, service: str = "redis", check: bool = True) -> str:
        """Ask a server by its own command line."""
        return docker("exec", self.container(service), "valkey-cli", *words, check=check)

    def image_of(self, service: str) -> str:
        """Return the image that a service is of."""
        services = self.compose("config")
        found = services.partition(f"\n  {service}:\n")[2].partition("\n    image: ")[2]
        return found.partition("\n")[0].strip()

    def demo(self, workers: int, jobs: int = 300) -> None:
        """Run the demo: it ends well only if each document came back, and so many workers had a part."""
        self._environment |= {"DEMO_JOBS": str(jobs), "DEMO_WORKERS": str(workers)}
        self._profiles.add("demo")
        say(self.compose("run", "--rm", "-T", "demo").strip().splitlines()[-2])

    def down(self) -> None:
        self._profiles |= {"demo", "dashboard", "monitoring"}
        # A client that a failed part has left behind is none of compose's services, and holds its network.
        filters = ["--filter", f"label=com.docker.compose.project={self.name}"]
        if left := docker("ps", "--all", "--quiet", *filters, check=False).split():
            docker("rm", "--force", *left, check=False)
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
        Path(self._no_settings).unlink(missing_ok=True)

    def tell_last_words(self) -> None:
        """Print the last lines of each container that are no news of jobs."""
        for id_ in docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}"
        ).split():
            said = subprocess.run(["docker", "logs", "--tail", "200", id_], capture_output=True, text=True, check=False)
            lines = [line[:400] for line in (said.stdout + said.stderr).splitlines() if '"level":"info"' not in line]
            state = docker("inspect", "--format", "{{.Name}}: {{.State.Status}}, {{.State.ExitCode}}", id_, check=False)
            print(state, *lines[-8:], sep="\n    ", file=sys.stderr, flush=True)


@contextmanager
def running(stack: Stack, *, keep: bool) -> Iterator[Stack]:
    """Take the stack down at the end, after its last words if that was not a good one."""
    try:
        yield stack
    except BaseException:
        stack.tell_last_words()
        raise
    finally:
        if keep:
            say(f"left as it is: docker ps --filter label=com.docker.compose.project={stack.name}")
        else:
            stack.down()


def answer(stack: Stack, service: str, url: str) -> dict:
    """Ask a page of JSON from within the containers' network."""
    program = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    return json.loads(stack.ask(service, program, url))

"""What holds of the image, and of workers with one plain server: scaled, killed, stopped, hung.

Each part takes what it needs as it is and leaves a stack that the next one can go on with.
"""

from __future__ import annotations

import json
import time

from tests.compose.load import Load
from tests.compose.stack import Failed, Stack, docker, say, wait_for

__all__ = ["dashboard", "demo", "hang", "image", "kill", "scale", "server", "stop"]

LABELS = ("title", "description", "licenses", "version", "revision", "source", "created")

_ABSENT = """
import importlib.util, shutil, subprocess, sys
names = [name for name in ("pip", "setuptools", "ensurepip") if importlib.util.find_spec(name)]
base = subprocess.run([sys.base_prefix + "/bin/python3", "-c", "import pip"], capture_output=True).returncode == 0
tools = [tool for tool in ("pip", "pip3", "cc", "gcc", "g++", "make") if shutil.which(tool)]
print(names + tools + (["pip of the base"] if base else []))
"""

_WRITABLE = """
import os
print([place for place in ("/", "/app", "/opt/barque", "/data", "/tmp") if os.access(place, os.W_OK)])
"""

_COST = """
import resource, subprocess
times = []
for command in (["barque", "health", "--help"],) * 3:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
print(min(times))
"""


def image(stack: Stack) -> None:
    """What the image promises: who it runs as, what is not in it, labels, process 1."""
    config = json.loads(docker("image", "inspect", stack.image))[0]["Config"]
    if config["User"] != "10001:10001":
        raise Failed(f"the image runs as {config['User']!r}")
    if config["Cmd"] != ["arq", "workers.WorkerSettings"] or config.get("Entrypoint"):
        raise Failed(f"process 1 is {config.get('Entrypoint')} {config['Cmd']}")
    labels = config["Labels"] or {}
    if missing := [name for name in LABELS if not labels.get(f"org.opencontainers.image.{name}")]:
        raise Failed(f"labels without a value: {missing}")
    alone = ("run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", stack.image)
    if (found := docker(*alone, "python", "-c", _ABSENT)) != "[]":
        raise Failed(f"the image holds what it needs for nothing: {found}")
    if (found := docker(*alone, "python", "-c", _WRITABLE)) != "[]":
        raise Failed(f"a container with a read-only file system can write to {found}")
    rows = docker("history", "--format", "{{.Size}} {{.CreatedBy}}", stack.image).splitlines()
    layers = [row.split()[0] for row in rows if not row.startswith("0B ")]
    say(f"size by layers, the newest first: {', '.join(layers)}")
    say(f"starting the command line takes {float(docker(*alone, 'python', '-c', _COST)):.2f} s of CPU time")


def demo(stack: Stack) -> None:
    """Three workers and a server: the demo's jobs across all of them."""
    workers = stack.workers(3)
    for id_ in workers:
        found = json.loads(docker("inspect", id_))[0]["HostConfig"]
        if not found["ReadonlyRootfs"] or found["CapDrop"] != ["ALL"] or found["Privileged"]:
            raise Failed(f"a worker may do more than it needs: {found}")
    stack.demo(workers=3)


def scale(stack: Stack) -> None:
    """From 1 worker to 6 and down to 2 under load: nothing is lost, nothing begins twice."""
    stack.workers(1)
    load = Load(stack)
    load.wait(50)
    stack.workers(6)
    load.wait(150)
    stack.workers(2)
    load.wait(50)
    outcomes = load.finish()
    outcomes.check(at_least=250)
    if len(outcomes.ended_at) < 6:
        raise Failed(f"only {len(outcomes.ended_at)} of 6 workers had a part")


def kill(stack: Stack) -> None:
    """SIGKILL of a worker's container in the middle of its jobs: those run again, and no other."""
    victim = stack.workers(3)[0]
    host = docker("inspect", "--format", "{{.Config.Hostname}}", victim)
    # More than three workers can: each of them has its hands full.
    load = Load(stack, rate=40, seconds=1)
    load.wait(60)
    docker("kill", "--signal", "KILL", victim)
    load.wait(150)
    outcomes = load.finish()
    outcomes.check(at_least=200, lost_with={host})
    if not outcomes.again:
        raise Failed("the killed worker was in the middle of no job: that shows nothing")
    stack.workers(3)


def server(stack: Stack) -> None:
    """The server killed under load, and started again: what was acknowledged is still there."""
    stack.workers(3)
    load = Load(stack)
    load.wait(50)
    id_ = stack.container("redis")
    docker("kill", "--signal", "KILL", id_)
    time.sleep(3)  # an outage of that length, not a wait for something
    docker("start", id_)
    load.wait(100)
    load.finish().check(at_least=150, lost_with=None)


def hang(stack: Stack) -> None:
    """The health check tells a worker that hangs from its neighbours that do not."""
    hung, *others = stack.workers(3)

    def well(id_: str) -> bool:
        return docker("exec", id_, "sh", "-c", "barque health >/dev/null 2>&1 && echo well", check=False) == "well"

    pid = docker("exec", hung, "python", "-c", _WORKER)
    docker("exec", hung, "python", "-c", f"import os; os.kill({pid}, 19)")
    wait_for("a worker that stands still to fail its health check", lambda: not well(hung))
    if not all(map(well, others)):
        raise Failed("workers beside a hung one fail their health check")
    docker("exec", hung, "python", "-c", f"import os; os.kill({pid}, 18)")
    wait_for("a worker that goes on to pass its health check", lambda: well(hung))
    say("of three, the one that hung; and none, once it went on")


_WORKER = """
import pathlib
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit() and b"workers.WorkerSettings" in (entry / "cmdline").read_bytes():
        if b"python" in (entry / "cmdline").read_bytes().split(b"\\0")[0]:
            print(entry.name)
            break
"""


def stop(stack: Stack) -> None:
    """SIGTERM in the middle of long jobs: each worker ends by itself, and gives back what it has, uncounted."""
    ids = stack.workers(3)
    load = Load(stack, rate=100, seconds=15, most=20)
    load.wait_enqueued(20)
    wait_for("20 jobs to run", lambda: stack.ask("worker", _RUNNING) == "20")
    before = time.monotonic()
    stack.compose("stop", "worker")
    took = time.monotonic() - before
    for id_ in ids:
        # 137 is Docker's own SIGKILL, which comes only after stop_grace_period.
        if code := docker("inspect", "--format", "{{.State.ExitCode}}", id_).removeprefix("0"):
            raise Failed(f"a worker ended with {code} instead of 0")
    stack.workers(3)
    outcomes = load.finish()
    hosts = {docker("inspect", "--format", "{{.Config.Hostname}}", id_) for id_ in ids}
    outcomes.check(at_least=20, lost_with=hosts)
    if counted := [times for times in outcomes.again.values() if times[-1][1] != 1]:
        raise Failed(f"an attempt that was given back was counted: {counted[0]}")
    if len(outcomes.again) != 20:
        raise Failed(f"{20 - len(outcomes.again)} jobs of 15 s ended within a grace period of 5 s")
    say(f"stopped in {took:.0f} s, all with exit code 0")
    early = docker("run", "--detach", "--init", "--env", "BARQUE_START_WAIT=1h", stack.image)
    docker("stop", "--time", "60", early)
    code = docker("inspect", "--format", "{{.State.ExitCode}}", early)
    docker("rm", early)
    if code == "137":
        raise Failed("a worker that is told to stop while it starts has to be killed")
    say(f"one that is told to stop as it starts ends by itself, with {code}")


_RUNNING = """
import pathlib
lines = [line.split() for file in max(pathlib.Path("/data/ledger").iterdir(), key=lambda p: p.stat().st_mtime).iterdir()
         for line in file.read_text().splitlines()]
print(sum(line[3] == "begun" for line in lines))
"""

_PAGES = """
import base64, urllib.error, urllib.request
page = urllib.request.Request("http://127.0.0.1:9180/")
try:
    urllib.request.urlopen(page)
except urllib.error.HTTPError as refused:
    print(refused.code, end=" ")
page.add_header("Authorization", "Basic " + base64.b64encode(b"barque:compose-test-password").decode())
print(urllib.request.urlopen(page).status)
"""


def dashboard(stack: Stack) -> None:
    """The dashboard starts with a credential, and shows nothing without it."""
    stack.workers(1)
    stack.add("dashboard", BARQUE_DASHBOARD_PASSWORD="compose-test-password")
    stack.up("dashboard")
    if (found := stack.ask("dashboard", _PAGES)) != "401 200":
        raise Failed(f"it answers {found} instead of 401 without, 200 with the password")
    say("401 without the password, 200 with it")

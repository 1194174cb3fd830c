"""The command line of `make compose-test`: run the image and docker-compose.yml for real, part by part.

    python -m tests.compose                     all parts
    python -m tests.compose scale kill          some of them
    python -m tests.compose --compose docker-compose --skip-build tls
    python -m tests.compose --build-arguments "--network host --build-arg PIP_INDEX_URL"

Needs a Docker engine (DOCKER_HOST is honoured) and about ten minutes. Leaves no container, network or volume of its
own; the image stays, for the next build to be quick. PYTHON_IMAGE, REDIS_IMAGE, PROMETHEUS_IMAGE, GRAFANA_IMAGE and
SENTINEL_NETWORK are taken from the environment.

Exit code: 0 when all held, 1 when something did not, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from tests.compose import parts, servers, watching
from tests.compose.stack import ROOT, Failed, Stack, docker, find_compose, running

__all__: list[str] = []

# Part by part, and what is laid over docker-compose.yml for it. Those with the same run in the same stack.
PARTS: dict[str, tuple[Callable[[Stack], None], str | None]] = {
    "image": (parts.image, None),
    "demo": (parts.demo, None),
    "scale": (parts.scale, None),
    "kill": (parts.kill, None),
    "server": (parts.server, None),
    "hang": (parts.hang, None),
    "stop": (parts.stop, None),
    "dashboard": (parts.dashboard, None),
    "monitoring": (watching.monitoring, None),
    "tls": (servers.tls, "deploy/compose/tls.yml"),
    "sentinel": (servers.sentinel, "deploy/compose/sentinel.yml"),
}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make compose-test", description="Run the image and docker-compose.yml.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--compose", metavar="COMMAND", help='such as "docker-compose"; by default what there is')
    parser.add_argument("--image", default="barque:compose-test", help="the tag of the image")
    parser.add_argument("--skip-build", action="store_true", help="take the image as it is")
    parser.add_argument("--build-arguments", default="", metavar="WORDS", help="more words for docker build")
    parser.add_argument("--keep", action="store_true", help="leave the containers as they are")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return options


def build(image: str, more: str) -> None:
    print(f"==> build: {image}", flush=True)
    words = ["docker", "build", "--tag", image, *shlex.split(more), "."]
    if name := os.environ.get("PYTHON_IMAGE"):
        words[2:2] = ["--build-arg", f"PYTHON_IMAGE={name}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{shlex.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def run(options: argparse.Namespace) -> None:
    compose = shlex.split(options.compose) if options.compose else find_compose()
    version = subprocess.run([*compose, "version"], capture_output=True, text=True, check=False).stdout.splitlines()
    print(f"{(version or ['?'])[0]}, engine {docker('version', '--format', '{{.Server.Version}}')}", flush=True)
    if not options.skip_build:
        build(options.image, options.build_arguments)
    chosen = options.parts or list(PARTS)
    for over in dict.fromkeys(PARTS[name][1] for name in chosen):
        with running(Stack(compose, options.image, *([over] if over else [])), keep=options.keep) as stack:
            for name in chosen:
                part, needs = PARTS[name]
                if needs == over:
                    print(f"==> {name}: {(part.__doc__ or '').splitlines()[0]}", flush=True)
                    began = time.monotonic()
                    part(stack)
                    print(f"    held, in {time.monotonic() - began:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        run(options)
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    print("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())

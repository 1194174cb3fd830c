"""Where peers are installed: one environment each under benchmarks/.envs/, from pinned versions.

Owns making them and telling what is missing. An environment is made once and again when its pins change.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path

__all__ = [
    "ENVIRONMENTS",
    "PEERS",
    "ROOT",
    "Environment",
    "Missing",
    "NodeEnvironment",
    "OwnEnvironment",
    "PythonEnvironment",
    "RubyEnvironment",
]

HERE = Path(__file__).parent.absolute()
ROOT = HERE.parent
PEERS = HERE / "peers"
ENVIRONMENTS = HERE / ".envs"

_VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


class Missing(Exception):
    """A peer cannot be installed here; the message says why and what to do."""


class Environment(ABC):
    """Where one peer is installed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = ENVIRONMENTS / name

    @abstractmethod
    def make(self) -> None:
        """Install the peer, unless it is installed.

        Raises:
            Missing: it cannot be installed here.
        """

    @abstractmethod
    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Return the installed versions, by package."""

    def _is_made(self, pins: bytes) -> bool:
        stamp = self.folder / ".made-from"
        return stamp.exists() and stamp.read_text() == _digest(pins)

    def _made(self, pins: bytes) -> None:
        (self.folder / ".made-from").write_text(_digest(pins))


class PythonEnvironment(Environment):
    """A virtual environment made from a requirements.txt that pins every package."""

    def __init__(self, name: str, requirements: Path) -> None:
        super().__init__(name)
        self.requirements = requirements

    def make(self) -> None:
        """Make the virtual environment and install the pinned packages."""
        pins = self.requirements.read_bytes()
        if self._is_made(pins):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(self.folder)], "make a virtual environment")
        # --no-deps: the pins are the whole list; what they do not name must not come in unpinned.
        pip = [sys.executable, "-m", "pip", "--python", self.program("python"), "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", "--no-deps", "-r", str(self.requirements)], f"install {self.name}")
        self._made(pins)

    def program(self, name: str) -> str:
        """Return the path of a program in it."""
        return str(self.folder / "bin" / name)

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Return the installed versions, by package."""
        answer = _run([self.program("python"), "-c", _VERSIONS, *packages], f"ask {self.name} for its versions")
        found: dict[str, str] = json.loads(answer)
        return found


class OwnEnvironment(Environment):
    """The environment the harness itself runs in: Barque's."""

    def make(self) -> None:
        """Check that Barque and arq's command line are there."""
        if not Path(self.program("arq")).exists():
            raise Missing(f"no arq command beside {sys.executable}: run the benchmark by `make bench`")

    def program(self, name: str) -> str:
        """Return the path of a program beside the running interpreter."""
        return str(Path(sys.executable).parent / name)

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Return the installed versions, by package."""
        return {package: metadata.version(package) for package in packages}


class NodeEnvironment(Environment):
    """A folder with a peer's programs and node_modules, from package-lock.json."""

    def __init__(self, name: str, sources: Path) -> None:
        super().__init__(name)
        self.sources = sources

    def make(self) -> None:
        """Copy the programs and install the locked packages."""
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Missing(f"{self.name} needs node and npm on PATH: install Node 20 or newer")
        lock = (self.sources / "package-lock.json").read_bytes()
        is_made = self._is_made(lock)
        if not is_made:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for source in self.sources.iterdir():
            shutil.copy(source, self.folder)
        if not is_made:
            # Not `npm ci`: it wants the optional packages of every platform in the lock file, which npm wrote without.
            npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            _run(npm, f"install {self.name}", folder=self.folder)
            self._made(lock)

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Return the installed versions, and Node's own."""
        found = {"node": _run(["node", "--version"], "ask node for its version").strip().removeprefix("v")}
        for package in packages:
            about = self.folder / "node_modules" / package / "package.json"
            found[package] = json.loads(about.read_text())["version"]
        return found


class RubyEnvironment(Environment):
    """The system's Ruby; its packages are the system's, and installed only where BENCH_APT=1 allows it."""

    def make(self) -> None:
        """Check that the peer is there, or install it."""
        packages = ["ruby", f"ruby-{self.name}", "ruby-hiredis"]
        if not self._is_there() and os.environ.get("BENCH_APT") == "1":
            _run(["apt-get", "update", "--quiet"], "update the list of packages")
            _run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], f"install {self.name}")
        if not self._is_there():
            raise Missing(
                f"{self.name} is not installed. On Debian and Ubuntu, as root: apt-get install "
                f"--no-install-recommends {' '.join(packages)}; or BENCH_APT=1, which does that"
            )

    def _is_there(self) -> bool:
        return shutil.which(self.name) is not None and shutil.which("ruby") is not None

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Return the installed versions, and Ruby's own."""
        ask = "require 'json'; puts JSON.generate(ARGV.to_h { |n| [n, Gem.loaded_specs[n]&.version.to_s] })"
        load = [word for package in packages for word in ("-r", package)]
        found: dict[str, str] = json.loads(_run(["ruby", *load, "-e", ask, *packages], "ask ruby for versions"))
        return {"ruby": _run(["ruby", "-e", "print RUBY_VERSION"], "ask ruby for its version"), **found}


def _digest(pins: bytes) -> str:
    return hashlib.sha256(pins + sys.version.encode()).hexdigest()


def _run(argv: list[str], what: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=600, check=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"cannot {what}: {error}") from error
    except subprocess.CalledProcessError as error:
        last = "\n".join((error.stderr or error.stdout).strip().splitlines()[-5:])
        raise Missing(f"cannot {what}: {last}") from error
    return done.stdout

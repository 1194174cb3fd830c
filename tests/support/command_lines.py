"""Command lines that a page shows, held against the programs they call: their commands and options are there.

Nothing is run. `fault(words)` says what is wrong with one, None if nothing is. What a program of somebody else's may be
told is not known here, but for what Barque's own files name: targets of make, services of compose, extras, modules.
"""

import contextlib
import importlib.util
import io
import itertools
import re
import tomllib
from collections.abc import Callable, Sequence
from functools import cache

import typer
import yaml
from arq.cli import cli as arq

from cli.main import app
from tests.support.page_blocks import ROOT, blocks

__all__ = ["barque_fault", "fault"]

# Programs that a reader of a page has, or is told to get.
_OTHERS = {
    "apt-get", "brew", "cat", "cd", "celery", "chmod", "cp", "curl", "django-admin", "echo", "export", "git",
    "grep", "gunicorn", "head", "helm", "jq", "kill", "ls", "mkdir", "mv", "openssl", "ps", "psql", "pytest",
    "redis-cli", "redis-server", "rm", "rq", "sed", "sleep", "sort", "source", "systemctl", "tail", "taskset",
    "tee", "timeout", "touch", "uv", "uvicorn", "valgrind", "valkey-cli", "valkey-server", "watch", "wc", "xargs",
}  # fmt: skip
_BEFORE_ANOTHER = {"exec", "nohup", "opentelemetry-instrument", "sudo", "time"}
_COMPOSE = {
    "build", "config", "cp", "down", "exec", "images", "kill", "logs", "port", "ps", "pull", "restart", "rm", "run",
    "start", "stop", "top", "up",
}  # fmt: skip
_OF_SERVICES = {"build", "exec", "kill", "logs", "restart", "run", "start", "stop", "up"}
_PLACEHOLDER = re.compile(r".*(?:…|\.\.\.|<\w+>|\b[A-Z]{2,}\b|\bN\b|\$).*", re.DOTALL)


def fault(words: Sequence[str]) -> str | None:
    """Return what is wrong with a command line, None if nothing is."""
    if not words:
        return None
    program, *rest = words
    if program in _BEFORE_ANOTHER and rest:
        return fault(rest)
    program = program.rpartition("/")[2]  # of a virtual environment, say
    if program in _KNOWN:
        return _KNOWN[program](rest)
    return (
        None if program in _OTHERS or words[0] == "." else f"{words[0]}: no program that the pages may take for there"
    )


def barque_fault(words: Sequence[str], *, of_a_sentence: bool = False) -> str | None:
    """Return what is wrong with the words after `barque`.

    Args:
        of_a_sentence: it is named rather than typed, so that arguments may be missing, as they may wherever a command
            stands alone.
    """
    command = _command_line()
    path, rest = ["barque"], [word for word in words if word != "--debug"]
    while inner := getattr(command, "commands", None):
        if not rest:
            return None
        word = rest.pop(0)
        if word in _options(command) or word == "…":
            return None
        if word not in inner:
            return f"`{' '.join(path)}` has no {word}"
        path.append(word)
        command = inner[word]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # --help prints
            command.make_context(" ".join(path), list(rest))
    except typer.Exit:  # --help
        return None
    except Exception as error:  # Typer has Click's errors under a private name
        said = getattr(error, "message", None) or str(error)
        if (of_a_sentence or not rest) and (
            type(error).__name__ == "MissingParameter" or "requires an argument" in said
        ):
            return None
        if type(error).__name__ == "BadParameter" and any(map(_PLACEHOLDER.fullmatch, rest)):
            return None
        return f"`{' '.join(path)}`: {said}"
    return None


@cache
def _command_line() -> object:
    return typer.main.get_command(app)


def _options(command: object) -> set[str]:
    return {option for parameter in getattr(command, "params", ()) for option in parameter.opts} | {"--help", "-h"}


def _arq(words: Sequence[str]) -> str | None:
    try:
        arq.make_context("arq", list(words))
    except Exception as error:
        return f"arq: {getattr(error, 'message', None) or error}"
    return None


@cache
def _makefile() -> tuple[frozenset[str], frozenset[str]]:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE)
    return frozenset(targets), frozenset(re.findall(r"\$\((?:if \$\()?([A-Z]+)\)", text))


def _make(words: Sequence[str]) -> str | None:
    targets, variables = _makefile()
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and name not in variables:
            return f"the Makefile knows no {name}"
        if not is_variable and not word.startswith("-") and word not in targets:
            return f"the Makefile has no {word}"
    return None


@cache
def _compose_file() -> tuple[frozenset[str], frozenset[str]]:
    """Return the services and the profiles of docker-compose.yml, of what is laid over it, and of `barque init`'s."""
    files = [ROOT / "docker-compose.yml", *(ROOT / "deploy/compose").glob("*.yml")]
    services = {}
    for file in files:
        services |= yaml.safe_load(file.read_text("utf-8")).get("services", {}) | services
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    written = (ROOT / "cli/starter/docker-compose.yml.tmpl").read_text("utf-8")
    return frozenset({*services, *re.findall(r"^  (\w+):$", written, re.MULTILINE)}), frozenset(profiles)


def _compose(words: Sequence[str]) -> str | None:
    services, profiles = _compose_file()
    rest = list(words)
    subcommand = ""
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if name in {"-f", "--file", "-p", "--project-name", "--profile", "--scale", "-t", "--timeout", "--tail", "-s"}:
            value = value or (rest.pop(0) if rest else "")
            if name == "--profile" and value not in profiles:
                return f"docker-compose.yml has no profile {value}"
            if name == "--scale" and value.partition("=")[0] not in services:
                return f"docker-compose.yml has no service {value.partition('=')[0]}"
        elif not word.startswith("-"):
            if not subcommand:
                subcommand = word
                if word not in _COMPOSE:
                    return f"docker compose has no {word}"
            elif subcommand in _OF_SERVICES and word not in services:
                return f"docker-compose.yml has no service {word}"
            if subcommand in {"exec", "run"} and word in services:
                return fault(rest)
    return None


def _docker(words: Sequence[str]) -> str | None:
    return _compose(words[1:]) if words[:1] == ["compose"] else None


def _python(words: Sequence[str]) -> str | None:
    if words[:2] == ["-m", "cli"]:
        return barque_fault(words[2:])
    if words[:1] == ["-m"]:
        return _module(words[1], words[2:])
    path = next((word for word in words if not word.startswith("-")), "")
    if path.endswith(".py") and not _PLACEHOLDER.fullmatch(path):
        shown = {block.file for block in blocks("python")} | {"station.py", "enqueue.py", "manage.py", "setup.py"}
        if not (ROOT / path).exists() and path not in shown:
            return f"there is no {path}, and no page shows one"
    return None


def _module(name: str, rest: Sequence[str]) -> str | None:
    if name in {"pip", "build", "http"} or name.startswith("http."):
        return _pip(rest) if name == "pip" else None
    found = importlib.util.find_spec(name)
    if found is None:
        return f"there is no module {name}"
    if name.partition(".")[0] in {"benchmarks", "tests"}:
        folder = ROOT / name.replace(".", "/")
        source = "".join(
            path.read_text("utf-8")
            for path in [*folder.glob("*.py"), ROOT / f"{name.replace('.', '/')}.py"]
            if path.exists()
        )
        unknown = [word for word in rest if word.startswith("--") and f'"{word}"' not in source]
        return f"{name} knows no {', '.join(unknown)}" if unknown else None
    return None


def _pip(words: Sequence[str]) -> str | None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for word in words:
        if found := re.fullmatch(r"(?:.*/)?(?:barque|\.)\[([\w,]+)\]", word):
            unknown = set(found[1].split(",")) - project["optional-dependencies"].keys()
            if unknown:
                return f"there is no extra {', '.join(sorted(unknown))}"
    return None


def _kubectl(words: Sequence[str]) -> str | None:
    for option, path in itertools.pairwise(words):
        if option in {"-k", "-f"} and path.startswith("deploy/") and not (ROOT / path).exists():
            return f"there is no {path}"
    return None


def _barque(words: Sequence[str]) -> str | None:
    return barque_fault(words)


_KNOWN: dict[str, Callable[[Sequence[str]], str | None]] = {
    "arq": _arq,
    "barque": _barque,
    "docker": _docker,
    "docker-compose": _compose,
    "kubectl": _kubectl,
    "make": _make,
    "pip": _pip,
    "python": _python,
    "python3": _python,
}

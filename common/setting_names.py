"""Names: of the files settings stand in, and those that are no setting, with the setting each is nearest to.

Owns what counts as a slip. What a setting is called stands with its class; reading the sources is setting_sources.py's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

__all__ = ["CONFIG_FILE", "CONFIG_VARIABLE", "ENV_FILE", "did_you_mean", "misspelt", "nearest"]

ENV_FILE: str | Path | None = ".env"
CONFIG_FILE: str | Path | None = "barque.toml"
"""Where they are looked for, from the working folder; looked up at each reading, so that a test may say otherwise."""

CONFIG_VARIABLE = "BARQUE_CONFIG"
"""The variable that says where barque.toml is. No setting: it stands in no file of settings but `.env`."""

_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=", re.MULTILINE)

_NO_SETTINGS = {"BARQUE_DEBUG", "BARQUE_IMAGE", "BARQUE_WORKER_PROCESS", CONFIG_VARIABLE}
"""Names that mean something to the command line, the compose file, a supervisor, or before there are settings."""

_NO_SETTINGS_PREFIXES = ("BARQUE_TEST_", "BARQUE_WEBHOOK_SECRET_", "BARQUE_DATABASE_URL_", "BARQUE_DASHBOARD_")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the setting whose name is most like this one, however that is written; None if none is like it.

    Args:
        name: `leese`, `BARQUE_LEESE` or `redis-url`.
        known: names of settings, in small letters.
    """
    import difflib  # noqa: PLC0415 - for who has slipped, and a worker would keep it

    plain = name.lower().replace("-", "_").replace(".", "_").removeprefix("barque_")
    names = list(known)
    if plain in names:
        return plain
    near = difflib.get_close_matches(plain, names, n=1, cutoff=0.7)
    return near[0] if near else None


def did_you_mean(meant: str | None) -> str:
    """Return the words that follow upon "… is no setting"."""
    return f"did you mean {meant}?" if meant else "none is like it"


def misspelt(prefix: str, known: Collection[str]) -> list[tuple[str, str | None]]:
    """Return each variable that is no setting, with the setting it is nearest to, None if it is near none.

    Looks at the environment and the `.env` file, which hold names of others too: so a slip there is no error.
    `BARQUE_DEBUG`, `BARQUE_WEBHOOK_SECRET_<NAME>` and the like mean something without being settings, and are not
    listed; nor is what Kubernetes sets for a service called `barque-…`.

    Args:
        prefix: what their variables begin with; others are not looked at.
        known: names of settings, in small letters.
    """
    found = []
    for name in sorted({*os.environ, *_names_in_file()}):
        upper = name.upper()
        if not upper.startswith(prefix) or upper.removeprefix(prefix).lower() in known:
            continue
        if not _means_something(upper, prefix, os.environ):
            # Without the prefix, which would make any two names alike.
            meant = nearest(upper.removeprefix(prefix), known)
            found.append((name, f"{prefix}{meant.upper()}" if meant else None))
    return found


def _names_in_file() -> set[str]:
    try:
        text = Path(ENV_FILE).read_text("utf-8") if ENV_FILE is not None else ""
    except (OSError, UnicodeDecodeError):
        return set()  # who reads the settings says so
    return {name.upper() for name in _ASSIGNED.findall(text)}


def _means_something(name: str, prefix: str, environment: Mapping[str, str]) -> bool:
    if name in _NO_SETTINGS or name.startswith(tuple(other for other in _NO_SETTINGS_PREFIXES if other != prefix)):
        return True
    hosts = "_SERVICE_HOST"
    services = tuple(found.removesuffix(hosts) for found in environment if found.endswith(hosts))
    return name.startswith(tuple(f"{service}_{part}" for service in services for part in ("SERVICE_", "PORT")))

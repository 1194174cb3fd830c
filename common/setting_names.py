"""Names that are no setting: slips in a variable or in a key of barque.toml, and the setting each is nearest to.

Owns what counts as a slip. What a setting is called stands with its class; reading the sources is setting_sources.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["CONFIG_VARIABLE", "did_you_mean", "nearest", "slips"]

CONFIG_VARIABLE = "BARQUE_CONFIG"
"""The variable that says where barque.toml is. No setting: it stands in no file of settings but `.env`."""

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


def slips(names: Iterable[str], prefix: str, known: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the variables under `prefix` that are no setting, sorted.

    `BARQUE_DEBUG`, `BARQUE_WEBHOOK_SECRET_<NAME>` and the like mean something without being settings, and are not
    listed; nor is what Kubernetes sets for a service called `barque-…`.

    Args:
        names: all variables there are.
        known: names of settings, in small letters.
        environment: where services of Kubernetes would show.
    """
    right = {f"{prefix}{name.upper()}" for name in known}
    return [
        name
        for name in sorted(names)
        if name.upper().startswith(prefix)
        and name.upper() not in right
        and not _means_something(name.upper(), prefix, environment)
    ]


def _means_something(name: str, prefix: str, environment: Mapping[str, str]) -> bool:
    if name in _NO_SETTINGS or name.startswith(tuple(other for other in _NO_SETTINGS_PREFIXES if other != prefix)):
        return True
    hosts = "_SERVICE_HOST"
    services = tuple(found.removesuffix(hosts) for found in environment if found.endswith(hosts))
    return name.startswith(tuple(f"{service}_{part}" for service in services for part in ("SERVICE_", "PORT")))

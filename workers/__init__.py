"""Run jobs: `Worker`, and `WorkerSettings` for `arq workers.WorkerSettings`.

`install()` puts Barque's Worker under arq's command line for a settings class of your own.

All are looked up lazily (PEP 562), so that importing a task from `workers.tasks` does not import the engine, and
so that only a program that asks for `WorkerSettings` has its environment read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.entry import install
    from workers.settings import WorkerSettings
    from workers.worker import Worker

__all__ = ["Worker", "WorkerSettings", "install"]


def __getattr__(name: str) -> Any:
    if name == "WorkerSettings":
        from workers.lean_imports import import_structlog  # noqa: PLC0415 - lazy by design, see above

        import_structlog()
        from workers.entry import resolve  # noqa: PLC0415

        return resolve()
    if name == "install":
        from workers.entry import install  # noqa: PLC0415 - lazy by design, see above

        return install
    if name == "Worker":
        from workers.worker import Worker  # noqa: PLC0415 - lazy by design, see above

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

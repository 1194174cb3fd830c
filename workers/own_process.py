"""What a worker sets up in the process it runs in: all of it if that is its own, next to nothing if it is a host's.

Owns which of the two. The collector, which is set up once all is imported, is garbage.py's.
"""

from __future__ import annotations

import asyncio

import structlog

from common.logs import configure_logs, configure_logs_of_host
from common.setting_names import misspelt
from common.settings import Settings
from workers.io_threads import IoThreads

__all__ = ["set_up_process"]

log = structlog.get_logger("barque.worker")


def set_up_process(settings: Settings | None) -> None:
    """Set up logging and threads as these settings say; without any the process is a host program's."""
    if settings is None:
        configure_logs_of_host()
        return
    configure_logs(settings)
    for name, meant in misspelt(Settings.prefix, Settings.names()):
        log.warning("unknown_setting", name=name, did_you_mean=meant)
    # The loop's own default is a handful of threads: file work of a hundred jobs would queue behind it.
    asyncio.get_running_loop().set_default_executor(IoThreads())

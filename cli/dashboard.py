"""`barque dashboard`: serve the pages and the JSON API."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Queues, RedisUrl, add_current_folder, read_settings
from cli.output import note

__all__ = ["dashboard"]

_EXTRA = {"starlette", "uvicorn", "jinja2"}


def dashboard(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="HOST", help="Address to listen on, instead of BARQUE_DASHBOARD_HOST.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", "-p", metavar="PORT", min=0, max=65535, help="Port, instead of BARQUE_DASHBOARD_PORT; 0: any."
        ),
    ] = None,
    read_only: Annotated[
        bool | None,
        typer.Option("--read-only/--changes", help="Refuse, or allow, what changes something.", show_default=False),
    ] = None,
    queues: Queues = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            metavar="MODULE,MODULE",
            help="Modules to import, instead of BARQUE_DASHBOARD_TASKS: arguments of their tasks are masked by name, "
            "and checked when they are enqueued. The current folder is looked in, too.",
            show_default=False,
        ),
    ] = None,
    redis_url: RedisUrl = None,
) -> None:
    r"""Serve the dashboard: pages for people at /, a JSON API at /api/v1, until interrupted.

    It listens on 127.0.0.1 and asks for no password there. Any other address needs a credential, such as
    BARQUE_DASHBOARD_PASSWORD; `barque config --dashboard --explain` lists
    all settings of the dashboard.

    Exit codes: 2 a setting is wrong, an address cannot be listened on, or the `dashboard` extra is missing.

    \b
    Examples:
      barque dashboard
      barque dashboard --port 8080 --read-only
      BARQUE_DASHBOARD_PASSWORD_FILE=/run/secrets/dashboard barque dashboard --host 0.0.0.0
    """
    settings = read_settings(redis_url=redis_url, queues=queues)
    from common.errors import ConfigurationError  # noqa: PLC0415 - see the top of main.py
    from common.setting_names import did_you_mean, misspelt  # noqa: PLC0415
    from dashboard.settings import PREFIX, DashboardSettings, load_dashboard_settings  # noqa: PLC0415

    given = load_dashboard_settings(host=host, port=port, read_only=read_only, tasks=tasks)
    for wrong, meant in misspelt(PREFIX, DashboardSettings.model_fields):
        note(f"{wrong} is no setting and does nothing; {did_you_mean(meant)}")
    add_current_folder()
    try:
        from dashboard.server import serve  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ConfigurationError(
            f"the dashboard needs {error.name}, which is not installed: pip install 'barque[dashboard]'"
        ) from None
    serve(settings, given, ready=lambda url: note(f"{url} (Ctrl-C ends it)"))

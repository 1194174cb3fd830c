"""Which address shows which page, and which form does what."""

from __future__ import annotations

from starlette.routing import BaseRoute

from dashboard.pages.acting import Act, action, change_theme
from dashboard.pages.dead import DEAD, DEAD_CONFIRM, act_on_dead, delete_one, replay_one
from dashboard.pages.job import JOB
from dashboard.pages.job_actions import EDIT, abort, enqueue_edited, reschedule
from dashboard.pages.jobs import JOBS
from dashboard.pages.limits import LIMITS, reset_limit
from dashboard.pages.overview import OVERVIEW
from dashboard.pages.purge import PURGE, purge_queue
from dashboard.pages.queues import QUEUES, pause_queue, pause_task, resume_queue, resume_task
from dashboard.pages.schedules import SCHEDULES, pause_schedule, resume_schedule, run_schedule
from dashboard.pages.view import Page, live_page
from dashboard.pages.workers import WORKERS
from dashboard.routing import ExactRoute

__all__ = ["page_routes"]

_PAGES: dict[str, Page] = {
    "/": OVERVIEW,
    "/queues": QUEUES,
    "/queues/{queue}/purge": PURGE,
    "/jobs": JOBS,
    "/jobs/{job_id}": JOB,
    "/jobs/{job_id}/edit": EDIT,
    "/workers": WORKERS,
    "/schedules": SCHEDULES,
    "/dead": DEAD,
    "/dead/all/{verb}": DEAD_CONFIRM,
    "/limits": LIMITS,
}

_ACTIONS: dict[str, Act] = {
    "/queues/{queue}/pause": pause_queue,
    "/queues/{queue}/resume": resume_queue,
    "/queues/{queue}/purge": purge_queue,
    "/tasks/pause": pause_task,
    "/tasks/{task}/resume": resume_task,
    "/jobs/{job_id}/abort": abort,
    "/jobs/{job_id}/reschedule": reschedule,
    "/jobs/{job_id}/edit": enqueue_edited,
    "/schedules/{name}/pause": pause_schedule,
    "/schedules/{name}/resume": resume_schedule,
    "/schedules/{name}/run": run_schedule,
    "/dead/all/{verb}": act_on_dead,
    "/dead/{job_id}/replay": replay_one,
    "/dead/{job_id}/delete": delete_one,
    "/limits/{name}/reset": reset_limit,
}


def page_routes() -> list[BaseRoute]:
    """Return the routes of all pages and of what their forms do."""
    return [
        *(ExactRoute(path, live_page(page), methods=["GET"]) for path, page in _PAGES.items()),
        *(ExactRoute(path, action(act), methods=["POST"]) for path, act in _ACTIONS.items()),
        ExactRoute("/theme", change_theme, methods=["GET"]),
    ]

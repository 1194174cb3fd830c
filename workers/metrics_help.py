"""What each series of a worker tells, and what to do about it: the HELP lines of /metrics.

Owns the words; docs/metrics.md has the same series in a table. Names are as Prometheus wants them: base units, and a
counter's ends in `_total`, which the text format adds.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HELP"]

HELP: Final = {
    "barque_worker": "Which worker this is, and the queues it serves; join on it by instance",
    "barque_build": "Versions of Barque, arq and Python; more than one in a fleet is a rollout that goes on, or stuck",
    "barque_attempts": "Attempts that ended, by how; of one task's failed ones see `barque dead list --task NAME`",
    "barque_retries": "Attempts after which another one comes; where they are many, what the task calls is unwell",
    "barque_dead_letters_left": "Jobs that failed for good and were kept, by why; look at them with `barque dead list`",
    "barque_busy_seconds": (
        "Seconds that attempts held the event loop; a task whose rate comes near 1 starves its neighbours: "
        "make it a plain def, or cpu=True"
    ),
    "barque_awaited_seconds": "Seconds that attempts waited for something else: what an async task should mostly do",
    "barque_steps": "How often attempts held the event loop; busy seconds by steps is how long one step takes",
    "barque_queue_wait_seconds": "Seconds from due to start; where it grows, add workers or concurrency",
    "barque_run_seconds": "Seconds from start to end of an attempt",
    "barque_longest_step_seconds": (
        "Seconds of the longest step of each attempt: how long it kept its neighbours waiting; above 0.1 look for "
        "what blocks"
    ),
    "barque_limit_held_back": (
        "Attempts that a limit put back into the queue; of kind door: of a task that is paused. "
        "`barque limits list` shows how it stands"
    ),
    "barque_limit_wait_seconds": "Seconds from when a limit first held a job back until it began, by the last one",
    "barque_circuit_changes": "Changes of circuit breakers that this worker's calls made; opened: see what it calls",
    "barque_round_trip_seconds": "Seconds until Redis had answered a claim that did not wait, or a batch of outcomes",
    "barque_claim_jobs": "Jobs a claim brought; claims that brought none are not counted",
    "barque_complete_outcomes": "Outcomes recorded together",
    "barque_event_loop_lag_seconds": "Seconds by which the event loop was late for an appointment, four times a second",
    "barque_event_loop_blocks": (
        "How often the event loop stood still for a second or more; event_loop_blocked in the log names the task and "
        "the line"
    ),
    "barque_event_loop_blocked_seconds": "Seconds for which it stood still so, all together",
    "barque_leases_lost": (
        "Attempts whose lease was another's at their end, so that their jobs ran twice: Redis away for longer than "
        "BARQUE_LEASE, or a worker that stood still"
    ),
    "barque_schedule_ticks": "Ticks of schedules this worker saw to; refused: see schedule_not_enqueued in its log",
    "barque_jobs_in_flight": "Attempts that run now",
    "barque_concurrency": "Attempts that may run at once (BARQUE_CONCURRENCY)",
    "barque_jobs_given_up": "Attempts that would not be stopped and run on; job_did_not_stop in the log names them",
    "barque_outcomes_waiting": "Outcomes on their way to Redis; above some hundred for long, it is too slow or away",
    "barque_ready": "Whether the worker takes jobs, as /readyz says",
    "barque_not_ready": "What keeps the worker from taking jobs; /readyz says it in words",
}
"""By the name of the series, a counter's without its `_total`, an info's without its `_info`."""

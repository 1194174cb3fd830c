"""The verdict on one trial: jobs lost, jobs run twice and why, the longest recovery.

Owns what explains a second run. Pure: made of the oracle's record, the faults that were done, and the outcomes
the server has. A second run that nothing explains is a defect, however well everything else went.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tests.chaos.driver.oracle import JobRecord, Oracle, Run

__all__ = ["Fault", "Outcome", "Verdict", "judge"]

ASKED = "its task asked for it"

_MOST_SHOWN = 20


@dataclass(slots=True)
class Fault:
    """Something that was done to a process, or to all of them.

    Attributes:
        what: in words.
        worker: the label of the process; None for all.
        began, ended: of the monotonic clock; a process that was killed stays so.
        least: seconds it must have lasted until a second start for that to be its doing; infinite where it takes no
            job from anybody.
        counted: whether we did it on purpose, and it belongs in the list of faults.
        recovers_from: when others could begin to make up for it; its beginning, unless it says.
    """

    what: str
    worker: str | None
    began: float
    ended: float = math.inf
    least: float = 0.0
    counted: bool = True
    recovers_from: float | None = None

    def explains(self, first: Run, second: Run) -> bool:
        """Whether the second attempt may have been made because of this."""
        if self.worker not in {None, first.worker} or self.ended < first.started:
            return False
        lasted = min(self.ended, second.started) - self.began
        return lasted >= 0 and lasted >= self.least


class Outcome(msgspec.Struct, frozen=True):
    """What the server has of a job that ended.

    Attributes:
        attempt: the number of the attempt that is said to have brought it about.
    """

    success: bool
    attempt: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a trial went.

    Attributes:
        acknowledged: jobs whose enqueue returned.
        refused: enqueues that raised, to be made again.
        attempts: of all jobs.
        lost: acknowledged jobs without an outcome, or said to have succeeded without an attempt that ended well.
        failed: acknowledged jobs whose outcome is a failure; no task of the suite fails for good.
        unfounded: jobs whose outcome names an attempt that did not end so.
        fenced: jobs whose outcome is that of an attempt in whose time another had begun: it had lost its lease.
        ended_twice: jobs whose success was recorded for two attempts.
        twice: second runs by what explains them; a retry that a task asked for is none.
        unexplained: second runs without a cause, in words.
        early: jobs started before their delay was over.
        leftovers: what the server has of jobs although all have ended.
        problems: whatever else was not as it should be.
        faults: what was done, how often.
        longest_recovery: seconds from a fault to the next start of a job it had struck; None if none was struck.
        seconds: of all of it.
    """

    scenario: str
    acknowledged: int
    refused: int
    attempts: int
    lost: list[str]
    failed: list[str]
    unfounded: list[str]
    fenced: list[str]
    ended_twice: list[str]
    twice: dict[str, int]
    unexplained: list[str]
    early: list[str]
    leftovers: list[str]
    problems: list[str]
    faults: dict[str, int]
    longest_recovery: float | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all promises were kept."""
        return not self.wrong()

    def wrong(self) -> list[str]:
        """Return what was not kept, in words."""
        said = [
            ("lost", self.lost),
            ("failed", self.failed),
            ("with an outcome no attempt stands behind", self.unfounded),
            ("with the outcome of an attempt that had lost its lease", self.fenced),
            ("ended twice", self.ended_twice),
            ("run twice without cause", self.unexplained),
            ("started before their time", self.early),
            ("left behind", self.leftovers),
        ]
        words = [f"{len(found):,} {what}: {_some(found)}" for what, found in said if found]
        return words + self.problems


def judge(
    scenario: str,
    oracle: Oracle,
    faults: Sequence[Fault],
    outcomes: Mapping[str, Outcome],
    *,
    ended: Mapping[str, int],
    leftovers: list[str],
    problems: list[str],
    seconds: float,
) -> Verdict:
    """Hold what happened against what is promised.

    Args:
        ended: how often each job was brought to success, by what the workers say.
        leftovers, problems: see Verdict.
    """
    oracle.in_order()
    acknowledged = {job_id: job for job_id, job in oracle.jobs.items() if job.acknowledged is not None}
    twice: Counter[str] = Counter()
    unexplained: list[str] = []
    for job_id, job in oracle.jobs.items():
        for first, second in zip(job.runs, job.runs[1:], strict=False):
            why = _explain(first, second, faults)
            if why is None:
                unexplained.append(f"{job_id}: {first} then {second}")
            elif why != ASKED:
                twice[why] += 1
    return Verdict(
        scenario=scenario,
        acknowledged=len(acknowledged),
        refused=oracle.refused,
        attempts=oracle.attempts,
        lost=[job_id for job_id in acknowledged if _lost(outcomes.get(job_id), done=job_id in oracle.done)],
        failed=[job_id for job_id in acknowledged if job_id in outcomes and not outcomes[job_id].success],
        unfounded=[job_id for job_id, job in acknowledged.items() if _unfounded(job, outcomes.get(job_id))],
        fenced=[job_id for job_id, job in acknowledged.items() if _fenced(job, outcomes.get(job_id))],
        ended_twice=[job_id for job_id, times in ended.items() if times > 1],
        twice=dict(twice),
        unexplained=unexplained,
        early=[job_id for job_id, job in acknowledged.items() if _early(job)],
        leftovers=leftovers,
        problems=problems,
        faults=dict(Counter(fault.what for fault in faults if fault.counted)),
        longest_recovery=_longest_recovery(acknowledged.values(), [fault for fault in faults if _strikes(fault)]),
        seconds=round(seconds, 1),
    )


def _explain(first: Run, second: Run, faults: Iterable[Fault]) -> str | None:
    if first.how == "raised":
        return ASKED
    found = [fault for fault in faults if fault.explains(first, second)]
    # What we did on purpose is told before what merely happened, what struck this worker before what struck all, and
    # what came last before what was over by then but for its consequences.
    found.sort(key=lambda fault: (not fault.counted, fault.worker is None, -fault.began))
    return found[0].what if found else None


def _lost(outcome: Outcome | None, *, done: bool) -> bool:
    return outcome is None or (outcome.success and not done)


def _unfounded(job: JobRecord, outcome: Outcome | None) -> bool:
    if outcome is None or not outcome.success:
        return False
    return not any(run.attempt == outcome.attempt and run.how == "done" for run in job.runs)


def _fenced(job: JobRecord, outcome: Outcome | None) -> bool:
    if outcome is None or not outcome.success:
        return False
    ends = [run.ended for run in job.runs if run.attempt == outcome.attempt and run.how == "done"]
    later = [run.started for run in job.runs if run.attempt > outcome.attempt]
    return bool(later) and all(ended is not None and ended > min(later) for ended in ends)


# The server's clock counts whole milliseconds, and may be set while we run.
_CLOCKS_DIFFER = 0.05


def _early(job: JobRecord) -> bool:
    return bool(job.runs) and job.runs[0].started < job.sent + job.delay - _CLOCKS_DIFFER


def _longest_recovery(jobs: Collection[JobRecord], faults: Sequence[Fault]) -> float | None:
    waits: list[float] = []
    for job in jobs:
        for first, second in zip(job.runs, job.runs[1:], strict=False):
            if first.how != "raised":
                struck = [fault for fault in faults if fault.explains(first, second)]
                waits += [second.started - _from(fault) for fault in struck[-1:]]
        if job.runs and job.acknowledged is not None:
            due, begun = job.acknowledged + job.delay, min(run.started for run in job.runs)
            # Nobody knows who had it: the first fault that came before it was begun is the one that counts.
            waits += [begun - max(due, _from(fault)) for fault in faults if due <= fault.began < begun][:1]
    for fault in faults:
        if fault.recovers_from is not None:  # all stood still: it is over when the first job is begun again
            starts = [run.started for job in jobs for run in job.runs if run.started > fault.recovers_from]
            waits += [min(starts) - fault.recovers_from] if starts else []
    return round(max(waits), 3) if waits else None


def _strikes(fault: Fault) -> bool:
    return fault.counted and fault.least < math.inf


def _from(fault: Fault) -> float:
    return fault.began if fault.recovers_from is None else fault.recovers_from


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_SHOWN])
    return f"{shown}, …" if len(names) > _MOST_SHOWN else shown

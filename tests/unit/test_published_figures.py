"""The figures that README and pages tell of the benchmark are those of the run that is kept in the repository."""

import datetime as dt
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.goals import evaluate
from benchmarks.report import budget
from benchmarks.results import Results

ROOT = Path(__file__).parents[2]
KEPT = "benchmarks/results/short.json"
RUN = Results.read(ROOT / KEPT)
MEASURED = [verdict for verdict in evaluate(RUN) if verdict.met is not None]
MISSED = [verdict for verdict in MEASURED if not verdict.met]


def _is_a_run_of_ones_own() -> bool:
    if shutil.which("git") is None:
        return False
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", KEPT], cwd=ROOT, capture_output=True, check=False)
    return changed.returncode == 1


pytestmark = pytest.mark.skipif(_is_a_run_of_ones_own(), reason="`make bench` wrote figures that are not committed")


def page(name: str) -> str:
    return (ROOT / name).read_text()


def median(measure: str, subject: str, metric: str = "jobs_per_s") -> float:
    found = RUN.median(measure, subject, metric)
    assert found is not None
    return found


def drained(peer: str) -> str:
    return f"{median('drain_noop', peer):,.0f}"


def times(peer: str) -> str:
    return f"{median('drain_noop', 'barque') / median('drain_noop', peer):.1f}"


def resident(peer: str) -> str:
    return f"{median('idle_memory', peer, 'resident_mb'):.1f}"


def row(peer: str) -> str:
    """Return what comparison.md says of a peer."""
    result = RUN.median("round_trip", peer, "p50_ms")
    cells = [
        *(f"{median(measure, peer):,.0f}" for measure in ("drain_noop", "drain_nap", "bulk")),
        f"{median('pickup', peer, 'p50_ms'):.2f}",
        "keeps none" if result is None else f"{result:.2f}",
        f"{median('idle_memory', peer, 'resident_mb'):.1f}",
    ]
    name = RUN.title(peer)
    return f"| {f'**{name}**' if peer == 'barque' else name} | " + " | ".join(cells) + " |"


def of_scaling(metric: str, form: str) -> str:
    return ", ".join(form.format(median("scaling", processes, metric)) for processes in ("1", "2", "4", "8"))


def of_budget() -> str:
    parts = budget(RUN)
    assert parts is not None
    asyncio_us, barque_us, waiting_us = (part for _, part in parts[:3])
    return (
        f"{asyncio_us + barque_us + waiting_us:.1f} microseconds, of which asyncio takes {asyncio_us:.1f}, "
        f"Barque {barque_us:.1f} and waiting for Redis {waiting_us:.1f}"
    )


PICKUP, RESULT = (f"{median(measure, 'barque', 'p50_ms'):.2f}" for measure in ("pickup", "round_trip"))
MET = f"{len(MEASURED) - len(MISSED)}"

TOLD = {
    "README.md": [
        ", ".join(f"{RUN.title(peer)} {drained(peer)}" for peer in ("barque", "bullmq", "sidekiq", "saq", "arq")) + "]",
        f"to the result, medians: Barque {PICKUP} and {RESULT}]",
        f"Barque {median('bulk', 'barque'):,.0f} in bulk and {median('single', 'barque'):,.0f} one by one]",
        f"Of the {len(MEASURED)} goals that run is held against it met {MET}.",
    ],
    "docs/benchmarks.md": [
        f"{MET} of {len(MEASURED)} goals met.",
        f"drained {drained('barque')} jobs/s that do nothing, {times('arq')} times arq,",
        f"{times('sidekiq')} times Sidekiq, {times('bullmq')} times BullMQ;",
        f"{of_scaling('jobs_per_s', '{:,.0f}')} jobs a second; {of_scaling('redis_us', '{:.1f}')} microseconds]",
        *(verdict.value for verdict in MISSED),
    ],
    "docs/comparison.md": [
        *map(row, RUN.subjects("drain_noop")),
        f"({median('pickup', 'sidekiq', 'p50_ms'):.2f} ms beside {PICKUP})",
        f"({resident('barque')} MB; "
        + ", ".join(f"{RUN.title(peer)} {resident(peer)}" for peer in ("sidekiq", "arq", "rq", "saq"))
        + ")",
    ],
    "docs/batching.md": [
        f"claim and complete {median('floor', 'scripts', 'jobs_per_s'):,.0f} jobs/s a hundred at a time",
        f"one worker process ran {drained('barque')} of them",
        f"begins after {PICKUP} ms at the median",
    ],
    "docs/when_not.md": [
        f"({median('floor', 'asyncio_noop', 'jobs_per_s'):,.0f}/s against {drained('barque')}/s of `noop`"
    ],
    "docs/performance.md": [of_budget()],
}


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, all_words in TOLD.items() for words in all_words])
def test_a_page_says_what_was_measured(name, words):
    assert words in page(name)


def test_the_date_is_that_of_the_run():
    date = dt.datetime.fromisoformat(RUN.about["date"])
    said = f"{date.day} {date:%B} {date.year}"
    assert said in page("README.md")
    assert said in page("docs/benchmarks.md")
    assert said in page("docs/comparison.md")
    assert f"{date:%Y-%m-%d}" in page("docs/batching.md")


def test_no_other_goal_is_said_to_be_missed():
    table = re.search(r"Not met:\n\n(.*?)\n\n", page("docs/benchmarks.md"), re.DOTALL)
    assert table is not None
    assert len(table[1].splitlines()) - 2 == len(MISSED)

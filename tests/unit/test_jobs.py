"""common/jobs.py: ids, states, words."""

import os
import re
import string
import threading
import time

from common import jobs
from common.jobs import JobState, OutcomeKind, new_job_id, new_job_ids, new_worker_id


def test_ids_sort_in_the_order_they_were_made():
    ids = [new_job_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_an_id_is_20_digits_and_letters_that_begin_with_the_time():
    before = time.time_ns() // 1_000_000
    made = new_job_id()
    after = time.time_ns() // 1_000_000
    assert re.fullmatch(r"[0-9A-Za-z]{20}", made)
    stamp = 0
    for digit in made[:8]:
        stamp = 62 * stamp + (string.digits + string.ascii_uppercase + string.ascii_lowercase).index(digit)
    assert before <= stamp <= after


def test_ids_sort_in_order_from_one_second_into_the_next(monkeypatch):
    # The digits of the time are kept for as long as only the last two of them change: 3.8 s.
    moments = iter(range(62**2 * 450_000_000 - 3, 62**2 * 450_000_000 + 3))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments) * 1_000_000)
    ids = [new_job_id(), *new_job_ids(2), *(new_job_id() for _ in range(4))]
    assert ids == sorted(ids)
    assert len({made[:8] for made in ids}) == 6
    assert [len(new) for new in ids] == [20] * 7


def test_more_ids_than_a_counter_counts_take_more_than_one_time(monkeypatch):
    monkeypatch.setattr(jobs, "_PAIR", 2)  # so that it counts to four
    monkeypatch.setattr(jobs, "_PAIRS", ["00", "01"])
    moments = iter(range(10))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments) * 1_000_000)
    made = new_job_ids(7)
    assert len(set(made)) == len(made) == 7


def test_threads_never_share_an_id():
    made: list[list[str]] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        made.append([new_job_id() for _ in range(2000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [job_id for ids in made for job_id in ids]
    assert len(every) == 16_000
    assert len(set(every)) == 16_000


def test_a_forked_child_makes_other_ids_than_its_parent():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_job_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        theirs = pipe.read()
    # The counters of both stand at the same number; what tells them apart is the random part.
    assert len(theirs) == 20
    assert theirs[12:] != new_job_id()[12:]


def test_a_worker_id_names_the_process_and_is_never_given_twice():
    ids = {new_worker_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(f"-{os.getpid()}-" in worker for worker in ids)
    assert not any(re.search(r"[\s:]", worker) for worker in ids), "a lease token is split at its colons"


def test_which_states_are_final():
    assert {state for state in JobState if state.ended} == {
        JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.ENDED,
    }  # fmt: skip


def test_outcomes_are_the_words_of_the_log_events():
    assert [kind.value for kind in OutcomeKind] == [
        "succeeded", "retried", "failed", "timed_out", "cancelled", "discarded", "snoozed", "released", "lost",
        "passed_on", "held_back",
    ]  # fmt: skip

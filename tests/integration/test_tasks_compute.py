"""Work in real processes: the event loop goes on, a killed process is replaced, none is left behind."""

import asyncio
import bz2
import functools
import gzip
import hashlib
import lzma
import math
import operator
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import structlog

from common import Context
from common.errors import ConfigurationError
from common.open_resources import keeper_of
from common.settings import settings_for_process
from workers.processes import pool
from workers.processes.pool import ProcessLost, processes
from workers.tasks import compress_file, run_in_process
from workers.tasks.data_root import PathRefused

# The functions handed to processes are the standard library's: a process imports what it runs, and this
# file is no module it could import.


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BARQUE_COMPUTE_PROCESSES", "1")
    monkeypatch.setenv("BARQUE_DATA_ROOT", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()


@pytest.fixture
async def ctx():
    context = Context(job_id="j1")
    yield context
    await keeper_of(context.state).close()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_function_runs_in_another_process(ctx):
    assert await run_in_process(ctx, math.factorial, 20) == math.factorial(20)
    assert await run_in_process(ctx, int, "ff", base=16) == 255
    first = await run_in_process(ctx, os.getpid)
    assert first != os.getpid()
    assert await run_in_process(Context(state=ctx.state), os.getpid) == first  # one pool for all tasks


async def test_what_it_raises_is_raised_here(ctx):
    with pytest.raises(ZeroDivisionError):
        await run_in_process(ctx, operator.truediv, 1, 0)


async def test_an_error_that_cannot_travel_breaks_no_pool(ctx):
    first = await run_in_process(ctx, os.getpid)
    with pytest.raises(RuntimeError, match="Local: gone"):
        await run_in_process(ctx, exec, "class Local(Exception): pass\nraise Local('gone')")
    with pytest.raises(TypeError, match="pickle"):
        await run_in_process(ctx, eval, "(n for n in 'abc')")
    assert await run_in_process(ctx, os.getpid) == first


async def test_the_event_loop_goes_on_meanwhile(ctx):
    working = asyncio.create_task(run_in_process(ctx, time.sleep, 0.3))
    turns = 0
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100


async def test_what_cannot_be_sent_says_so(ctx):
    with pytest.raises(ConfigurationError, match="top level of a module"):
        await run_in_process(ctx, lambda: 1)
    with pytest.raises(ConfigurationError, match="an argument of"):
        await run_in_process(ctx, len, (n for n in "abc"))
    assert not ctx[processes]._all  # nothing was started for it


async def test_a_killed_process_costs_its_own_call_and_is_replaced(ctx, tmp_path):
    first = await run_in_process(ctx, os.getpid)
    release = tmp_path / "release"
    os.mkfifo(release)
    lost = asyncio.create_task(run_in_process(ctx, release.read_text))
    waiting = [asyncio.create_task(run_in_process(ctx, os.getpid)) for _ in range(3)]
    writing = await asyncio.to_thread(os.open, release, os.O_WRONLY)  # opens once it is being read
    os.kill(first, signal.SIGKILL)
    os.close(writing)
    with pytest.raises(
        ProcessLost, match=r"the process that ran .*read_text died: it was killed \(SIGKILL\); out of mem"
    ):
        await lost
    assert compress_file.options.retry.retries(lost.exception())
    (second,) = {await call for call in waiting}
    assert second != first
    assert not is_alive(first)


async def test_a_process_that_ends_by_itself_says_with_what(ctx):
    with pytest.raises(ProcessLost, match="it ended with exit code 7"):
        await run_in_process(ctx, os._exit, 7)
    with pytest.raises(ProcessLost, match=r"it crashed \(SIGABRT\)"):
        await run_in_process(ctx, os.abort)
    with pytest.raises(SystemExit):
        await run_in_process(ctx, sys.exit, 7)
    assert await run_in_process(ctx, int, "7") == 7


async def test_a_process_killed_while_idle_is_replaced(ctx):
    first = await run_in_process(ctx, os.getpid)
    (process,) = ctx[processes]._all
    os.kill(first, signal.SIGKILL)
    await process.ended()
    assert await run_in_process(ctx, os.getpid) != first


async def test_cancelling_a_call_kills_its_process_and_what_that_started(ctx, tmp_path):
    first = await run_in_process(ctx, os.getpid)
    pid = tmp_path / "pid"
    os.mkfifo(pid)
    call = asyncio.create_task(run_in_process(ctx, subprocess.call, ["sh", "-c", f"echo $$ >{pid}; exec sleep 600"]))
    grandchild = int(await asyncio.to_thread(pid.read_text))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await run_in_process(ctx, os.getpid) != first
    async with asyncio.timeout(20):
        while is_running(first) or is_running(grandchild):
            await asyncio.sleep(0.01)


async def test_a_process_is_replaced_after_so_many_jobs_or_above_a_memory_size(monkeypatch):
    monkeypatch.setenv("BARQUE_COMPUTE_MAX_JOBS", "2")
    context = Context()
    pids = [await run_in_process(context, os.getpid) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    await keeper_of(context.state).close()
    settings_for_process.cache_clear()
    monkeypatch.setenv("BARQUE_COMPUTE_MAX_JOBS", "0")
    monkeypatch.setenv("BARQUE_COMPUTE_MAX_MEMORY", str(256 * 1024 * 1024))
    first = await run_in_process(context, os.getpid)
    assert await run_in_process(context, os.getpid) == first
    await run_in_process(context, exec, f"import common; common.hoard = bytearray(b'1') * {256 * 1024 * 1024}")
    assert await run_in_process(context, os.getpid) != first
    await keeper_of(context.state).close()


async def test_a_cancelled_call_that_has_not_started_never_does(ctx, tmp_path):
    await run_in_process(ctx, os.getpid)
    release, mark = tmp_path / "release", tmp_path / "mark"
    os.mkfifo(release)
    blocking = asyncio.create_task(run_in_process(ctx, release.read_text))
    waiting = [asyncio.create_task(run_in_process(ctx, mark.touch)) for _ in range(5)]
    await asyncio.sleep(0)
    for call in waiting:
        call.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await asyncio.to_thread(release.write_text, "go")
    assert await blocking == "go"
    assert await run_in_process(ctx, os.getpid)  # whatever was queued before has had its turn


async def test_closing_kills_what_is_still_at_work(monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "_SECONDS_TO_END", 0.1)
    context = Context(job_id="j1")
    pid = await run_in_process(context, os.getpid)
    release = tmp_path / "release"
    os.mkfifo(release)
    stuck = asyncio.create_task(run_in_process(context, release.read_text))
    writing = await asyncio.to_thread(os.open, release, os.O_WRONLY)  # opens once it is being read
    await keeper_of(context.state).close()
    os.close(writing)
    assert not is_alive(pid)
    assert isinstance((await asyncio.gather(stuck, return_exceptions=True))[0], ProcessLost)


async def test_closing_leaves_no_process(ctx):
    pid = await run_in_process(ctx, os.getpid)
    await keeper_of(ctx.state).close()
    assert not is_alive(pid)
    assert await run_in_process(ctx, os.getpid) != pid  # and a later call starts anew


async def test_signals_are_the_workers_to_decide_on(ctx):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert (
            await run_in_process(ctx, eval, f"__import__('os').kill(__import__('os').getpid(), {int(number)})") is None
        )
    first = await run_in_process(ctx, os.getpid)
    assert await run_in_process(ctx, os.getpid) == first


async def test_the_traceback_tells_of_both_sides(ctx):
    with pytest.raises(ZeroDivisionError) as raised:
        await run_in_process(ctx, eval, "1 / 0")
    (note,) = raised.value.__notes__
    assert note.startswith("\nIn the process:\nTraceback")
    assert "workers/processes/inside.py" in note or "<string>" in note


def test_the_processes_of_a_killed_worker_end_too(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(
        textwrap.dedent("""
            import asyncio, os
            from common import Context
            from workers.tasks import run_in_process

            async def main():
                print(await run_in_process(Context(), os.getpid), flush=True)
                await asyncio.sleep(600)

            if __name__ == "__main__":
                asyncio.run(main())
        """)
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))}
    with subprocess.Popen([sys.executable, worker], stdout=subprocess.PIPE, env=environment) as process:
        child = int(process.stdout.readline())
        assert is_alive(child)
        process.kill()
        # The child holds the other end of this pipe until it has ended.
        assert process.stdout.read() == b""
    late = time.monotonic() + 20
    while is_running(child) and time.monotonic() < late:  # it closes its files a moment before it is gone
        time.sleep(0.005)
    assert not is_running(child)


def is_running(pid):
    """Whether a process still runs; an orphan nobody has waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


OPEN = {"xz": lzma.decompress, "gzip": gzip.decompress, "bzip2": bz2.decompress}
SUFFIX = {"xz": ".xz", "gzip": ".gz", "bzip2": ".bz2"}


@pytest.mark.parametrize("algorithm", OPEN)
async def test_a_compressed_file(ctx, tmp_path, algorithm):
    content = b"the same again and again " * 100_000
    (tmp_path / "data/a.txt").write_bytes(content)
    done = await compress_file.function(ctx, "a.txt", algorithm=algorithm, level=1)
    made = (tmp_path / "data" / done.path).read_bytes()
    assert done.path == "a.txt" + SUFFIX[algorithm]
    assert OPEN[algorithm](made) == content
    assert (done.size_before, done.size) == (len(content), len(made))
    assert done.size < done.size_before / 10
    assert done.sha256 == hashlib.sha256(made).hexdigest()
    assert (tmp_path / "data/a.txt").read_bytes() == content
    assert sorted(entry.name for entry in (tmp_path / "data").iterdir()) == ["a.txt", done.path]


async def test_compressing_twice_gives_the_same_bytes(ctx, tmp_path):
    (tmp_path / "data/a.txt").write_text("content")
    compress = functools.partial(compress_file.function, ctx, "a.txt", algorithm="gzip")
    assert (await compress(to="b.gz")).sha256 == (await compress(to="deep/c.gz")).sha256


async def test_what_cannot_be_compressed(ctx, tmp_path):
    (tmp_path / "data/a.txt").write_text("content")
    (tmp_path / "outside").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "outside")
    for path, to, error in (
        ("missing", None, FileNotFoundError),
        ("../outside/x", None, PathRefused),
        ("a.txt", "../outside/a.xz", PathRefused),
        ("a.txt", "link/a.xz", PathRefused),
        ("a.txt", "a.txt", ValueError),
        ("a.txt", "./a.txt", ValueError),
    ):
        with pytest.raises(error) as caught:
            await compress_file.function(ctx, path, to=to)
        assert not compress_file.options.retry.retries(caught.value)
    with pytest.raises(ValueError, match="1 to 9"):
        await compress_file.function(ctx, "a.txt", level=10)
    assert list((tmp_path / "outside").iterdir()) == []


FORKS = """
import os, sys
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1], "it is no success to come out of the function twice"
"""


@pytest.mark.parametrize("then", ["", "else: raise ValueError('in the copy')", "else: sys.exit(0)"])
async def test_a_fork_that_comes_out_of_the_function_answers_for_nobody(ctx, then):
    assert await run_in_process(ctx, exec, FORKS + then) is None
    assert await run_in_process(ctx, int, "7") == 7  # its own answer, none that was left from before


async def test_what_a_function_forks_logs_to_standard_error_and_heeds_signals(ctx, capfd):
    await run_in_process(
        ctx,
        exec,
        """
import logging, multiprocessing, os, signal, time
def child():
    logging.getLogger("in_it").warning("said in the copy")
    time.sleep(600)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.terminate()
process.join(60)
assert process.exitcode == -signal.SIGTERM, process.exitcode
with multiprocessing.get_context("fork").Pool(2) as pool:  # which ends its processes by a signal
    assert pool.map(abs, [-1, -2]) == [1, 2]
    pool.apply(logging.getLogger("in_it").warning, ["said in a pool"])
""",
    )
    assert "said in a pool" in capfd.readouterr().err


@pytest.mark.parametrize("left", ["os.system('sleep 600 &')", "os.fork() or os.execlp('sleep', 'sleep', '600')"])
async def test_the_death_of_a_process_is_seen_though_what_it_started_lives(ctx, left):
    with pytest.raises(ProcessLost, match="SIGKILL"):
        await run_in_process(ctx, exec, f"import os\n{left}\nos.kill(os.getpid(), 9)")


@pytest.mark.parametrize(("level", "name"), [(1, "debug"), (35, "warning"), (99, "critical")])
async def test_a_line_of_a_level_of_the_programs_own_comes_out(ctx, level, name):
    code = f"import logging\nl = logging.getLogger('own')\nl.setLevel(1)\nl.log({level}, 'odd')"
    with structlog.testing.capture_logs() as lines:
        await run_in_process(ctx, exec, code)
    assert [line["log_level"] for line in lines if line["event"] == "odd"] == [name]


async def test_a_process_that_cannot_read_its_line_ends(ctx):
    """A listener that is gone would leave the process, and its job, for ever."""
    limit = """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (32 << 20), resource.RLIM_INFINITY))
"""
    await run_in_process(ctx, exec, limit)
    with pytest.raises(ProcessLost, match="exit code 1"):
        await run_in_process(ctx, len, bytes(64 << 20))
    assert await run_in_process(ctx, len, b"12") == 2

"""producer/blocking.py: the same producer in threads, after a fork, and under Ctrl-C."""

import asyncio
import concurrent.futures
import gc
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from common.embedded import EmbeddedServer
from common.errors import ConfigurationError, RedisUnavailable, ResultTimeout
from common.settings import load_settings
from common.tasks import Call
from producer import BlockingProducer

# Plain functions: these tests have no event loop, as the programs this is made for have none.


@pytest.fixture
def keys(server, no_keys_left):
    import redis as redis_py

    with redis_py.Redis.from_url(server.url) as client:
        yield client
        client.flushdb()


@pytest.fixture
def producer(keys, redis_url):
    with BlockingProducer(redis_url) as opened:
        yield opened


def test_many_threads_share_one_producer(producer, keys):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda n: producer.enqueue(Call("t", n)), range(400)))
    assert len({job.job_id for job in jobs}) == 400
    assert keys.zcard("arq:queue") == 400
    assert sum(thread.name == "barque-producer" for thread in threading.enumerate()) == 1


def test_threads_that_use_it_first_at_the_same_time_open_it_once(keys, redis_url):
    producer = BlockingProducer(redis_url)
    start = threading.Barrier(8)

    def enqueue(_):
        start.wait()
        return producer.enqueue(Call("t"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(enqueue, range(8)))
    assert sum(thread.name == "barque-producer" for thread in threading.enumerate()) == 1
    producer.close()
    assert not any(thread.name == "barque-producer" for thread in threading.enumerate())


def in_child(work) -> bytes:
    """Run it in a forked child and return what it returns."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_opens_a_connection_of_its_own(producer, keys):
    mine = producer.enqueue(Call("t"))
    theirs = in_child(lambda: producer.enqueue(Call("t")).job_id).decode()
    assert len(theirs) == 20
    assert theirs != mine.job_id
    assert producer.enqueue(Call("t")).is_new, "the parent's goes on"
    assert keys.zcard("arq:queue") == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_handle_taken_into_a_forked_child_says_so_instead_of_hanging(producer):
    job = producer.enqueue(Call("t"))
    assert in_child(job.status).startswith(b"RedisUnavailable: this BlockingProducer is not open in this process")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_closing_in_a_forked_child_does_not_wait_for_the_parents_thread(producer):
    producer.enqueue(Call("t"))
    assert in_child(lambda: producer.close() or "closed") == b"closed"
    assert producer.enqueue(Call("t")).is_new


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_whose_first_use_fails_is_told_so_each_time():
    with EmbeddedServer() as server, BlockingProducer(server.url) as producer:
        producer.enqueue(Call("t"))
        server.kill()

        def use_twice() -> str:
            errors = []
            for _ in range(2):
                with pytest.raises(RedisUnavailable) as raised:
                    producer.enqueue(Call("t"))
                errors.append(type(raised.value).__name__)
            return " ".join(errors)

        assert in_child(use_twice) == b"RedisUnavailable RedisUnavailable"


def use_and_drop(producer) -> str:
    producer.enqueue(Call("t"))

    async def collect() -> None:  # where there is a running loop, redis-py closes what is collected
        gc.collect()

    producer.run(collect())
    return "done"


def close(producer) -> str:
    producer.close()
    return "done"


def use_drop_and_close(producer) -> str:
    use_and_drop(producer)
    return close(producer)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("work", [use_and_drop, close, use_drop_and_close])
def test_nothing_a_child_does_reaches_the_parents_connection(work, keys, redis_url):
    with BlockingProducer(redis_url, answer_within=5) as producer:
        job = producer.enqueue(Call("t"), job_id="mine")
        with pytest.raises(ResultTimeout):
            job.result(timeout=0.05)  # there is a subscription too
        assert in_child(lambda: f"{work(producer)}, {gc.collect() >= 0}") == b"done, True"
        assert producer.enqueue(Call("t")).is_new


FORKING = """
import os, sys
from common import Call
from producer import BlockingProducer
with BlockingProducer(sys.argv[1], answer_within=5) as producer:
    producer.enqueue(Call("t"))
    child = os.fork()
    if child == 0:
        sys.exit(0)  # as a preloading web server's workers end: everything is taken down in good order
    os.waitpid(child, 0)
    print(producer.enqueue(Call("t")).is_new)
"""


def test_the_end_of_a_child_does_not_reach_the_parents_connection(keys, redis_url):
    # Newer Pythons warn of any fork of a process with threads; what is tested here is that this one is harmless.
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, redis_url]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_connects_leaves_the_child_no_lock_held():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        settings = load_settings(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}", redis_connect_timeout=0.5)
        producer = BlockingProducer(settings=settings)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            connecting = pool.submit(producer.enqueue, Call("t"))
            silent.accept()[0].close()
            assert in_child(lambda: producer.enqueue(Call("t")).job_id).startswith(b"RedisUnavailable")
            with pytest.raises(RedisUnavailable):
                connecting.result(timeout=30)


def in_threads(use, count: int) -> list[threading.Thread]:
    """Start threads that put what their use raises on their `raised`."""

    def work(raised: list[BaseException]) -> None:
        try:
            use()
        except BaseException as error:
            raised.append(error)

    threads = []
    for _ in range(count):
        raised: list[BaseException] = []
        thread = threading.Thread(target=work, args=(raised,), daemon=True)
        thread.raised = raised
        thread.start()
        threads.append(thread)
    return threads


def ended(threads) -> set[str]:
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return {f"{type(error).__name__}: {error}" for thread in threads for error in thread.raised}


async def calls_under_way(count: int) -> None:
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) <= count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("use", ["status", "info", "result", "abort"])
def test_closing_ends_the_calls_of_other_threads_though_the_server_hangs(use):
    with EmbeddedServer() as server:
        producer = BlockingProducer(server.url, answer_within=300)
        job = producer.enqueue(Call("t"))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            threads = in_threads(getattr(job, use), 4)
            producer.run(calls_under_way(4))
            closing = in_threads(producer.close, 2)
            assert ended(closing) == set()
            told = ended(threads)
            assert len(told) in {1, 2}
            assert all("RedisUnavailable: this" in text and "Producer was closed" in text for text in told)
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_closing_ends_a_wait_for_a_server_that_is_gone():
    with EmbeddedServer() as server:
        producer = BlockingProducer(server.url, answer_within=300)
        job = producer.enqueue(Call("t"))
        server.kill()
        threads = in_threads(job.result, 1)
        producer.run(calls_under_way(1))
        assert ended(in_threads(producer.close, 1)) == set()
        assert ended(threads) == {"RedisUnavailable: this BlockingProducer was closed while a call waited"}


def test_closing_while_threads_keep_calling_leaves_none_of_them_waiting(keys, redis_url):
    for _ in range(10):
        producer = BlockingProducer(redis_url)
        job = producer.enqueue(Call("t"))
        calling = threading.Semaphore(0)

        def call(job=job, calling=calling) -> None:
            while True:
                job.status()
                calling.release()

        threads = in_threads(call, 6)
        for _ in range(12):
            calling.acquire(timeout=20)
        producer.close()
        assert all(error.startswith("RedisUnavailable") for error in ended(threads))


def test_a_server_that_hangs_is_an_error_in_time(keys):
    with EmbeddedServer() as server, BlockingProducer(server.url, answer_within=0.1) as producer:
        job = producer.enqueue(Call("t"))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for use in (job.status, job.info, job.abort, job.result, lambda: producer.enqueue(Call("t"))):
                with pytest.raises(RedisUnavailable, match="no answer within"):
                    use()
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_a_producer_used_by_the_items_of_its_own_map_is_an_error_and_no_deadlock(producer):
    def items():
        yield producer.enqueue(Call("t")).job_id

    with pytest.raises(ConfigurationError, match=r"in its own background thread, where the items of map\(\) are"):
        list(producer.map(lambda job_id: Call("t", job_id), items()))


def test_items_that_exit_do_not_end_the_background_thread(producer):
    def items():
        raise SystemExit(3)
        yield

    with pytest.raises(SystemExit):
        list(producer.map(lambda n: Call("t", n), items()))
    assert producer.enqueue(Call("t")).is_new


def test_arqs_way_to_enqueue_is_told_ours(producer):
    with pytest.raises(ConfigurationError, match="enqueue takes a Call, got str and 1 more argument: call the task"):
        producer.enqueue("fetch_url", "u")


def test_a_handle_of_a_closed_producer_says_so(keys, redis_url):
    with BlockingProducer(redis_url) as producer:
        job = producer.enqueue(Call("t"))
    for use in (job.result, job.status, job.info, job.abort):
        with pytest.raises(RedisUnavailable, match="not open in this process"):
            use()


def test_closing_twice_is_fine_and_the_next_use_opens_it_again(keys, redis_url):
    producer = BlockingProducer(redis_url)
    producer.close()
    producer.enqueue(Call("t"))
    producer.close()
    producer.close()
    assert producer.enqueue(Call("t")).is_new
    producer.close()


def test_a_timeout_is_a_timeout(producer):
    job = producer.enqueue(Call("t"))
    with pytest.raises(ResultTimeout):
        job.result(timeout=0.05)
    assert repr(job) == f"<Job {job.job_id} in arq:queue>"


def test_every_option_is_passed_on(producer, keys):
    job = producer.enqueue(Call("t"), delay=60, job_id="mine", queue="q", metadata={"a": 1}, timeout=5, expires=3600)
    assert (job.job_id, job.queue, job.is_new) == ("mine", "q", True)
    assert producer.enqueue(Call("t"), job_id="mine", queue="q").is_new is False
    assert producer.job("mine", queue="q").info().metadata == {"a": 1}
    assert len(producer.enqueue_many([Call("t")] * 3, delay=5)) == 3


def test_a_half_used_map_can_be_dropped_even_after_closing(keys, redis_url):
    producer = BlockingProducer(redis_url)
    producer.enqueue(Call("t"))
    unfinished = producer.as_completed([Call("t")])
    results = producer.map(lambda n: Call("t", n), range(3))
    producer.close()
    results.close()
    unfinished.close()


def test_a_wrong_setting_shows_when_it_is_made():
    with pytest.raises(ConfigurationError, match="BARQUE_REDIS_URL"):
        BlockingProducer("http://nowhere")


def test_a_server_that_is_not_there_is_one_error_and_leaves_no_thread():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    producer = BlockingProducer(f"redis://127.0.0.1:{port}")
    with pytest.raises(RedisUnavailable, match=str(port)):
        producer.enqueue(Call("t"))
    assert not any(thread.name == "barque-producer" for thread in threading.enumerate())


SCRIPT = """
import sys
from common import Call
from producer import BlockingProducer
with BlockingProducer(sys.argv[1]) as producer:
    job = producer.enqueue(Call("t"), job_id="mine")
    print("waiting", flush=True)
    try:
        job.result()
    except KeyboardInterrupt:
        print("interrupted", job.status(), flush=True)
"""


def test_ctrl_c_ends_the_wait_and_nothing_else(keys, redis_url):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, redis_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout.readline() == "waiting\n"
        while not keys.hexists("barque:waiters", "mine"):
            pass
        script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=30)
    assert out == "interrupted queued\n"
    assert err == ""
    assert script.returncode == 0


async def test_inside_an_event_loop_it_still_works_from_a_thread(redis_url, keys):
    def script() -> bool:
        with BlockingProducer(redis_url) as producer:
            return producer.enqueue(Call("t")).is_new

    assert await asyncio.to_thread(script)

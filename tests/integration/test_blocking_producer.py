"""producer/blocking.py: the same producer in threads, after a fork, and under Ctrl-C."""

import asyncio
import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from common.errors import ConfigurationError, RedisUnavailable, ResultTimeout
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
    assert len(theirs) == 32
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

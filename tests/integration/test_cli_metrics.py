"""`barque metrics`: the fleet as Prometheus reads it, once and served."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common import Call
from tests.support.running import producer

__all__ = ["producer"]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.leaves_keys("*")


def samples(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def backlog(producer):
    await producer.enqueue_many([Call("mail", n) for n in range(3)], queue="mails")
    await producer.enqueue(Call("mail", 4), queue="mails", delay=3600)


def command(redis_url: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "cli", "metrics", "--redis-url", redis_url, "--queues", "mails,empty", *more]


@pytest.mark.usefixtures("backlog")
def test_it_is_printed(redis_url):
    done = subprocess.run(command(redis_url), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = samples(done.stdout)
    assert found["barque_queue_jobs", "mails", "queued"] == 3
    assert found["barque_queue_jobs", "later", "mails"] == 1
    assert found["barque_queue_oldest_due_seconds", "mails"] >= 0
    assert found["barque_queue_jobs", "empty", "queued"] == 0
    assert found["barque_workers",] == found["barque_dead_letters",] == 0


@pytest.mark.usefixtures("backlog")
def test_it_is_served_and_read_anew_each_time(redis_url):
    serving = subprocess.Popen(command(redis_url, "--listen", "0"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        url = serving.stderr.readline().split()[0]
        for _ in range(2):
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert samples(answer.read().decode())["barque_queue_jobs", "mails", "queued"] == 3
    finally:
        serving.kill()
        serving.communicate()


@pytest.mark.parametrize(("listen", "told"), [("web", "give a port, or HOST:PORT"), ("127.0.0.1:99999", "give a port")])
def test_what_is_no_address_is_said(redis_url, listen, told):
    done = subprocess.run(command(redis_url, "--listen", listen), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr

"""common/setting_handover.py: settings that a child reads, and what travels."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from common import setting_handover
from common.errors import ConfigurationError
from common.queue_weights import WeightedQueues
from common.secret import Secret
from common.setting_handover import handed_over, packed, read_apart
from common.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
READ = "import sys\nfrom common.setting_handover import read_apart\nfrom common.settings import Settings\n"
HAS_PYDANTIC = "'pydantic' in sys.modules"


def run(program, folder, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BARQUE_")}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip


def test_every_kind_of_value_arrives_as_it_was():
    given = load_settings(
        queues="high=6,low=1", tasks="a,b", redis_password="s3cret", log_file="x/y.log", lease="20s", concurrency=7,
        traces=True, log_level="DEBUG", redis_sentinels="one:1,two:2", max_memory="1G",
    )  # fmt: skip
    arrived = handed_over(Settings, packed(given))
    assert arrived == given
    assert {name: type(value) for name, value in arrived.given.items()} == {
        name: type(value) for name, value in given.given.items()
    }
    assert arrived.queues.weights == (6, 1)
    assert isinstance(arrived.queues, WeightedQueues)
    assert handed_over(Settings, packed(load_settings())) == load_settings()


def test_a_process_reads_them_and_holds_nothing_of_what_reads_them(tmp_path):
    (tmp_path / "barque.toml").write_text("lease = 20\n[queues]\na = 2\nb = 1\n")
    (tmp_path / ".env").write_text("BARQUE_REDIS_PASSWORD=s3cret\n")
    said = (
        "read = read_apart(Settings)\nprint(read.lease, read.threads, read.queues)\n"
        "print(read.redis_password.get_secret_value())\n"
        f"print({HAS_PYDANTIC}, sorted(read.given))"
    )
    ended = run(READ + said, tmp_path, BARQUE_THREADS="3")
    assert ended.stdout.splitlines() == [
        "20.0 3 WeightedQueues({'a': 2, 'b': 1})",
        "s3cret",
        "False ['lease', 'queues', 'redis_password', 'threads']",
    ]
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_what_is_wrong_is_told_as_the_child_found_it(tmp_path):
    (tmp_path / "barque.toml").write_text("leese = 20\n")
    said = (
        "try:\n    read_apart(Settings)\n"
        f"except Exception as error:\n    print(type(error).__name__, error, {HAS_PYDANTIC})"
    )
    ended = run(READ + said, tmp_path)
    assert ended.stdout == "ConfigurationError barque.toml, line 1: leese is no setting; did you mean lease? False\n"
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "instead",
    [
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "import os\ndel os.fork\n",
        "import os\ndef fork(): raise BlockingIOError(11, 'no more processes')\nos.fork = fork\n",
        # The child dies before it has said a word, and with half of one said.
        "import common.setting_handover as h, os\nh.packed = lambda settings: os.kill(os.getpid(), 9)\n",
        "import common.setting_handover as h, os\nh.packed = lambda settings: (os.write(4, b'\\x82'), os._exit(0))\n",
        "import common.setting_handover as h\nh.packed = lambda settings: {'lease': object()}\n",
    ],
    ids=["threads", "no fork", "no more processes", "killed", "cut short", "cannot be packed"],
)
def test_where_no_child_answers_the_process_reads_them_itself(tmp_path, instead):
    said = f"print(read_apart(Settings).lease, {HAS_PYDANTIC})"
    ended = run(READ + instead + said, tmp_path, BARQUE_LEASE="20")
    assert (ended.stdout, ended.stderr) == ("20.0 True\n", "")


def test_no_child_is_left_behind_nor_a_descriptor(tmp_path):
    said = (
        "import os, signal\nbefore = os.listdir('/proc/self/fd')\n"
        "read_apart(Settings)\n"
        "try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    print('none')\n"
        "print(os.listdir('/proc/self/fd') == before)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nprint(read_apart(Settings).lease)"
    )
    assert run(READ + said, tmp_path).stdout.split() == ["none", "True", "10.0"]


async def test_beside_a_running_loop_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(setting_handover, "_ask_a_child", lambda kind: pytest.fail("forked"))
    assert read_apart(Settings).lease == 10


class TestPlainSettings:
    def test_a_class_that_is_called_reads_and_checks(self, monkeypatch):
        monkeypatch.setenv("BARQUE_THREADS", "3")
        settings = Settings(lease="20s", queues=["a"])
        assert (settings.lease, settings.threads, settings.queues) == (20, 3, ("a",))
        with pytest.raises(ConfigurationError, match=r"^BARQUE_LEASE: 0s is out of range"):
            Settings(lease=0)
        with pytest.raises(ConfigurationError, match=r"no such setting: leese \(did you mean lease\?\)"):
            Settings(leese=1)

    def test_others_of_the_same_values_are_equal_however_they_were_set(self):
        assert load_settings(lease=10) == load_settings()
        assert hash(load_settings(lease=10)) == hash(load_settings())
        assert load_settings(lease=11) != load_settings()
        assert load_settings().replace(lease=11.0) == load_settings(lease=11)

    def test_they_can_be_copied_and_sent_to_another_process(self):
        settings = load_settings(redis_password="s", queues="a=2,b")
        for other in (copy.copy(settings), copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
            assert other == settings
            assert other.queues.weights == (2, 1)

    def test_they_do_not_change(self):
        settings = load_settings()
        with pytest.raises(AttributeError, match="frozen"):
            settings.lease = 3
        with pytest.raises(AttributeError, match="frozen"):
            del settings.lease


def test_a_secret_is_shown_nowhere():
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("s3cret") != Secret("x")
    assert not Secret("")

"""What a shell's Tab is answered, without a shell and without a server."""

from typing import get_args

import pytest
import typer

from cli import completing
from cli.task_names import declared_tasks
from common.jobs import OutcomeKind
from common.settings import Settings
from producer.job_filters import ListedState


@pytest.fixture
def context():
    return typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A folder that modules are found in, as they are by whoever presses Tab there."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestTasksInCode:
    def test_they_are_read_and_nothing_is_run(self, in_folder):
        (in_folder / "jobs_here.py").write_text(
            "raise SystemExit('imported')\n"
            "from common import task\nimport common\n\n"
            "@task\nasync def plain(ctx): ...\n\n"
            "@task(timeout=3, name='mail.send')\ndef send(ctx): ...\n\n"
            "@every(30)\n@common.task()\nasync def ticks(ctx): ...\n\n"
            "if True:\n    @task\n    async def sometimes(ctx): ...\n\n"
            "async def no_task(ctx): ...\n"
        )
        assert declared_tasks(["jobs_here"]) == ["mail.send", "plain", "sometimes", "ticks"]

    def test_a_package_has_those_of_the_modules_it_imports(self, in_folder):
        package = in_folder / "shop_here"
        (package / "mails").mkdir(parents=True)
        (package / "__init__.py").write_text("from . import orders\nfrom shop_here.mails import texts\nimport json\n")
        (package / "orders.py").write_text("from .common_things import task\n@task\nasync def pay(ctx): ...\n")
        (package / "mails" / "__init__.py").write_text("@task\nasync def greet(ctx): ...\n")
        (package / "mails" / "texts.py").write_text("from .. import orders\n@task\nasync def text(ctx): ...\n")
        assert declared_tasks(["shop_here"]) == ["greet", "pay", "text"]

    def test_what_cannot_be_read_is_left_out(self, in_folder):
        (in_folder / "broken_here.py").write_text("def (")
        (in_folder / "fine_here.py").write_text("@task\nasync def fine(ctx): ...\n")
        wrong = ["broken_here", "gone_here", "sys", "", "..", "fine_here.deeper"]
        assert declared_tasks([*wrong, "fine_here"]) == ["fine"]

    def test_those_that_ship_are_found(self):
        assert {"fetch_url", "checksum_file"} <= set(declared_tasks(["workers.tasks"]))

    def test_they_follow_without_a_server(self, in_folder, context, monkeypatch):
        (in_folder / "mine_here.py").write_text("@task\nasync def tidy(ctx): ...\n@task\nasync def mail(ctx): ...\n")
        monkeypatch.setenv("BARQUE_TASKS", "mine_here")
        monkeypatch.setattr(completing, "_asked", lambda *_: pytest.fail("the code was enough"))
        assert completing.task_names(context, "t") == ["tidy"]
        context.params = {"tasks": "workers.tasks"}
        assert "fetch_url" in completing.task_names(context, "fetch")


class TestLists:
    def test_a_state_follows_and_those_that_are_there_do_not(self):
        assert completing.states("s") == ["scheduled", "succeeded"]
        assert completing.states("failed,running,") == [
            f"failed,running,{state}"
            for state in ("cancelled", "dead", "ended", "queued", "scheduled", "succeeded", "waiting")
        ]

    def test_queues_follow_each_other(self, context, monkeypatch):
        monkeypatch.setattr(completing, "_asked", lambda *_: ["low", "lower"])
        monkeypatch.setenv("BARQUE_QUEUES", "high,low")
        assert completing.queue_list(context, "high,lo") == ["high,low", "high,lower"]


class TestWords:
    def test_states_and_outcomes_are_those_there_are(self):
        assert set(completing.states("")) == set(get_args(ListedState))
        unsaid = {OutcomeKind.PASSED_ON, OutcomeKind.HELD_BACK}  # of attempts that never began
        assert set(completing.outcomes("")) == {kind.value for kind in OutcomeKind if kind not in unsaid}
        assert completing.outcomes("re") == ["released", "retried"]

    def test_so_are_settings(self):
        assert "lease" in completing.setting_names("le")
        assert set(completing.setting_names("")) == set(Settings.names())


class TestNamesOfOthers:
    def test_none_that_a_shell_could_run_follows(self, context, monkeypatch):
        wrong = [
            "$(id)",
            "`id`",
            "a;id",
            "a b",
            "a'b",
            'a"b',
            "a\\$(id)",
            "a\nb",
            "-rf",
            "*",
            "ä",
            "a\x1b[1m",
            "",
            "a)b",
        ]
        monkeypatch.setattr(completing, "_asked", lambda *_: [*wrong, "web1-4711-9fe2c1"])
        assert completing.worker_names(context, "") == ["web1-4711-9fe2c1"]

    def test_there_are_not_too_many(self, context, monkeypatch):
        monkeypatch.setattr(completing, "_asked", lambda *_: map(str, range(10_000)))
        assert len(completing.worker_names(context, "")) == 200

    def test_a_setting_that_is_wrong_is_no_error_here(self, context, monkeypatch):
        monkeypatch.setenv("BARQUE_QUEUES", "a,,=b")
        monkeypatch.setenv("BARQUE_REDIS_URL", "nonsense")
        assert completing.queue_names(context, "") == []
        assert completing.schedule_names(context, "") == []


class TestColons:
    @pytest.fixture(autouse=True)
    def nothing_before(self, monkeypatch):
        monkeypatch.setattr(completing, "_before_colon", [])

    @pytest.mark.parametrize(
        ("typed", "whole", "answer"),
        [
            (["barque", "jobs", "--queue", "ar"], ["barque", "jobs", "--queue", "ar"], ["arq:low", "arq:queue"]),
            (["barque", "jobs", "--queue", "arq", ":"], ["barque", "jobs", "--queue", ""], ["low", "queue"]),
            (["barque", "jobs", "--queue", "arq", ":", "q"], ["barque", "jobs", "--queue", "q"], ["queue"]),
            (
                ["barque", "jobs", "--queue", "a", ":", "b", "--task", ""],
                ["barque", "jobs", "--queue", "a:b", "--task", ""],
                ["arq:low", "arq:queue"],
            ),
        ],
    )
    def test_bash_takes_words_apart_at_them(self, typed, whole, answer, context, monkeypatch):
        environment = {
            "_BARQUE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(typed), "COMP_CWORD": str(len(typed) - 1),
        }  # fmt: skip
        completing.heed_colons(environment)
        assert environment["COMP_WORDS"].split("\n") == whole
        assert environment["COMP_CWORD"] == str(len(whole) - 1)
        monkeypatch.setattr(completing, "_asked", lambda *_: ["arq:queue", "arq:low"])
        assert completing.queue_names(context, whole[-1]) == answer

    @pytest.mark.parametrize(
        "environment",
        [
            {"_BARQUE_COMPLETE": "complete_zsh", "COMP_WORDS": "a\n:\nb", "COMP_CWORD": "2"},
            {"_BARQUE_COMPLETE": "complete_bash", "COMP_WORDS": "a\n:\nb", "COMP_CWORD": "x"},
            {"_BARQUE_COMPLETE": "complete_bash"},
        ],
    )
    def test_of_others_nothing_is_changed(self, environment):
        before = dict(environment)
        completing.heed_colons(environment)
        assert environment == before

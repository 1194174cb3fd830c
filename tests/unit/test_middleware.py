"""What may be middleware, and how it is named in the settings."""

import sys

import pytest

from common import Context, middleware, task
from common.errors import ConfigurationError
from common.middleware import AttemptCall, import_middleware, true_middleware
from common.settings import load_settings
from workers.settings import worker_options
from workers.worker import Worker


async def good(attempt, proceed):
    return await proceed()


async def with_more(attempt, proceed, *, level="info"):
    return await proceed()


def not_async(attempt, proceed):
    return proceed()


async def takes_one(proceed):
    return await proceed()


async def takes_three(attempt, proceed, more):
    return await proceed()


async def generator(attempt, proceed):
    yield await proceed()


WRONG = [not_async, takes_one, takes_three, generator, 5, None]


def test_a_decorated_function_is_itself():
    assert middleware(good) is good
    assert middleware(with_more) is with_more


@pytest.mark.parametrize("function", WRONG)
async def test_what_cannot_go_around_is_refused_wherever_it_is_named(function):  # a worker needs a loop
    with pytest.raises(ConfigurationError, match=r"@middleware: .* is no middleware; write `async def "):
        middleware(function)
    with pytest.raises(ConfigurationError, match=r"@task\(middleware=…\): .* is no middleware"):
        task(middleware=[good, function])
    with pytest.raises(ConfigurationError, match=r"middleware: .* is no middleware"):
        Worker([with_task], middleware=[function])


@task(name="with_task")
async def with_task(ctx: Context) -> None: ...


@pytest.mark.parametrize("given", [good, "my_app.middleware:timing", None, 5])
def test_a_list_is_asked_for_where_one_is_given_bare(given):
    with pytest.raises(ConfigurationError, match="give a list"):
        true_middleware(given, "middleware")


def test_a_call_shows_no_arguments():
    assert "s3cret" not in repr(AttemptCall(Context(task="t"), ("s3cret",), {"key": "s3cret"}))


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "around_app.py").write_text(
        "async def timing(attempt, proceed):\n    return await proceed()\n"
        "class Inside:\n    one = staticmethod(timing)\n"
        "number = 5\n"
    )
    (tmp_path / "broken_app.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("around_app", None)


@pytest.mark.usefixtures("module")
def test_the_settings_name_modules_and_what_is_in_them(monkeypatch):
    monkeypatch.setenv("BARQUE_MIDDLEWARE", "around_app:timing, around_app:Inside.one")
    settings = load_settings()
    assert settings.middleware == ("around_app:timing", "around_app:Inside.one")
    found = worker_options(settings)["middleware"]
    timing = sys.modules["around_app"].timing
    assert found == (timing, timing)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("around_app:no_such", "around_app has no no_such"),
        ("around_app:number", "int is no middleware"),
        ("no_such_app:timing", "No module named 'no_such_app'"),
        ("broken_app:timing", "importing broken_app failed: ZeroDivisionError"),
    ],
)
def test_what_is_named_and_not_there_is_one_clear_error(name, says):
    with pytest.raises(ConfigurationError, match=says) as raised:
        import_middleware([name])
    assert str(raised.value).startswith(f"BARQUE_MIDDLEWARE: {name!r}")


@pytest.mark.parametrize("value", ["timing", "my_app.middleware", ":timing", "my_app:", "my_app/timing.py:timing"])
def test_a_setting_of_another_form_says_which(monkeypatch, value):
    monkeypatch.setenv("BARQUE_MIDDLEWARE", value)
    with pytest.raises(ConfigurationError, match=r"BARQUE_MIDDLEWARE.*give module:name"):
        load_settings()

"""common/tasks.py: @task, Task, Call and the registry."""

import functools
import inspect
import sys
import types
from datetime import timedelta

import pytest

from common import tasks
from common.context import Context
from common.errors import ConfigurationError, DuplicateTask
from common.retry import NEVER, RetryPolicy
from common.tasks import Call, PlainTask, Task, import_tasks, registered_tasks, task


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Give each test a registry of its own."""
    monkeypatch.setattr(tasks, "_registry", {})


async def fetch(ctx: Context, url: str, *, tries: int = 1) -> str:
    """Fetch a page."""
    return url * tries


def test_a_task_keeps_its_function_name_and_documentation():
    made = task(fetch)
    assert isinstance(made, Task)
    assert made.name == "fetch"
    assert made.function is fetch
    assert made.__doc__ == "Fetch a page."
    assert made.__name__ == "fetch"
    assert list(inspect.signature(made).parameters) == ["ctx", "url", "tries"]
    assert repr(made) == "<Task fetch>"
    assert registered_tasks() == {"fetch": made}


async def test_its_function_can_be_awaited_directly():
    assert await task(fetch).function(Context(), "a", tries=2) == "aa"


def test_calling_a_task_makes_a_call_that_does_not_show_its_arguments():
    call = task(fetch)("https://user:hunter2@host", tries=3)
    assert isinstance(call, Call)
    assert (call.name, call.args, call.kwargs) == ("fetch", ("https://user:hunter2@host",), {"tries": 3})
    assert call.task is registered_tasks()["fetch"]
    assert repr(call) == "<Call fetch with 2 argument(s)>"


def test_a_call_by_name_knows_no_task():
    call = Call("elsewhere", 1, name="a")
    assert (call.name, call.args, call.kwargs, call.task) == ("elsewhere", (1,), {"name": "a"}, None)


def test_options():
    policy = RetryPolicy(max_attempts=2)
    made = task(
        name="n",
        queue="q",
        timeout=timedelta(minutes=1),
        soft_timeout=50,
        deadline=timedelta(hours=2),
        retry=policy,
        keep_result=timedelta(hours=1),
    )(fetch)
    assert made.name == "n"
    assert made.options == tasks.TaskOptions(
        queue="q", timeout=60, soft_timeout=50, deadline=7200, retry=policy, keep_result=3600
    )


def test_an_option_left_out_leaves_it_to_the_worker():
    assert task(fetch).options == tasks.TaskOptions(queue=None, timeout=None, retry=RetryPolicy(), keep_result=None)


def test_a_task_made_in_a_function_is_called_as_it_would_be_at_the_top():
    @task
    async def inner(ctx: Context) -> None: ...

    class Group:
        @staticmethod
        @task
        async def method(ctx: Context) -> None: ...

    assert set(registered_tasks()) == {"inner", "Group.method"}


def make_elsewhere(name: str):
    async def other(ctx: Context) -> None: ...

    other.__qualname__ = name
    return other


def test_two_tasks_of_one_name_are_an_error_that_names_both_places():
    task(fetch)
    other = make_elsewhere("fetch")
    with pytest.raises(DuplicateTask) as raised:
        task(other)
    message = str(raised.value)
    for function in (fetch, other):
        assert f"{__file__}:{function.__code__.co_firstlineno}" in message
    assert "@task(name=…)" in message
    assert registered_tasks()["fetch"].function is fetch


def test_the_same_function_may_be_registered_again_as_a_reload_does():
    task(fetch)
    again = types.FunctionType(fetch.__code__, fetch.__globals__, "fetch")
    again.__qualname__ = "fetch"
    assert task(again) is registered_tasks()["fetch"]


def test_a_wrapped_coroutine_function_is_placed_where_it_was_written():
    @functools.wraps(fetch)
    async def wrapper(*args, **kwargs):
        return await fetch(*args, **kwargs)

    assert task(wrapper).place == f"{__file__}:{fetch.__code__.co_firstlineno}"


class Awaiter:
    async def __call__(self, ctx): ...


@pytest.mark.parametrize(
    "wrong",
    [len, Awaiter, Awaiter(), functools.partial(fetch, url="a"), 5],
    ids=["builtin", "class", "object", "partial", "number"],
)
def test_what_is_no_function_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"@task on .*a task is a function; write `async def`, or `def`"):
        task(wrong)
    assert registered_tasks() == {}


def shrink(ctx: Context, path: str, *, to: int = 100) -> str:
    """Shrink a picture."""
    return f"{path}@{to}"


def test_a_plain_function_makes_a_task_of_its_own_kind():
    made = task(shrink)
    assert isinstance(made, PlainTask)
    assert made.function(Context(), "a.png", to=5) == "a.png@5"
    assert made("a.png", to=5).kwargs == {"to": 5}
    assert not made.options.cpu
    assert task(cpu=True)(shrink).options.cpu
    assert not isinstance(task(fetch), PlainTask)


def test_awaiting_a_call_says_how_its_function_is_run():
    with pytest.raises(TypeError, match=r"call the function: `shrink.function\(Context\(\), …\)`"):
        task(shrink)("a.png").__await__()
    with pytest.raises(TypeError, match=r"await the function: `await fetch.function\(Context\(\), …\)`"):
        task(fetch)("a").__await__()


def test_a_plain_wrapper_of_a_coroutine_function_is_awaited():
    @functools.wraps(fetch)
    def wrapper(*args, **kwargs):
        return fetch(*args, **kwargs)

    assert not isinstance(task(wrapper), PlainTask)


def test_an_asynchronous_wrapper_of_a_plain_function_is_awaited():
    @functools.wraps(shrink)
    async def wrapper(*args, **kwargs):
        return shrink(*args, **kwargs)

    assert not isinstance(task(wrapper), PlainTask)


def test_a_lambda_needs_a_name():
    with pytest.raises(ConfigurationError, match=r"give one: @task\(name=…\)"):
        task(lambda ctx: 1)
    assert isinstance(task(name="one")(lambda ctx: 1), PlainTask)


def no_context(number: int) -> int:
    return number


def no_context_in_words(number: "int") -> int:
    return number


async def nothing_at_all() -> None: ...


async def only_by_name(*, number: int) -> None: ...


@pytest.mark.parametrize("function", [no_context, no_context_in_words, nothing_at_all, only_by_name])
def test_a_function_that_leaves_out_the_context_is_told_of_it(function):
    with pytest.raises(ConfigurationError, match=r"its first parameter receives the Context") as raised:
        task(function)
    assert f"`def {function.__name__}(ctx: Context, …)`" in str(raised.value)
    assert registered_tasks() == {}


def of_arq(ctx: dict[str, object], number: int) -> int:
    return number


def bare(ctx, number):
    return number


@pytest.mark.parametrize("function", [of_arq, bare])
def test_a_context_of_another_kind_is_the_functions_own_affair(function):
    assert task(function).name == function.__name__


def yields(ctx: Context):
    yield 1


async def yields_asynchronously(ctx: Context):
    yield 1


@pytest.mark.parametrize("cpu", [False, True])
@pytest.mark.parametrize("generator", [yields, yields_asynchronously])
def test_a_generator_function_is_refused_and_told_what_to_do(generator, cpu):
    with pytest.raises(ConfigurationError, match=f"@task on {generator.__qualname__!r}.*`yield`.*Return a list"):
        task(cpu=cpu)(generator)
    assert registered_tasks() == {}


def test_a_process_must_find_it_in_its_module():
    def inner(ctx: Context) -> None: ...

    with pytest.raises(ConfigurationError, match="move it to the top level of a module"):
        task(cpu=True)(inner)
    assert isinstance(task(inner), PlainTask), "a thread need not"


def test_a_coroutine_function_cannot_run_in_a_process_and_is_told_what_to_do():
    with pytest.raises(ConfigurationError, match=r"@task on 'fetch': cpu=True .*write `def`.*run_in_process"):
        task(cpu=True)(fetch)
    assert registered_tasks() == {}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": timedelta(days=400)}, "timeout="),
        ({"timeout": "5m"}, "timeout='5m'): give seconds as a number, or a timedelta"),
        ({"within": "1s", "batch": 2}, "within='1s'): give seconds as a number"),
        ({"keep_result": True}, "keep_result=True): give seconds as a number"),
        ({"queue": ""}, "queue=''): give the queue's name"),
        ({"retry": 3}, "retry=3: give a policy, as in RetryPolicy(max_attempts=3)"),
        ({"soft_timeout": 0}, "soft_timeout=0"),
        ({"soft_timeout": 60, "timeout": 60}, "soft_timeout=60, timeout=60"),
        ({"deadline": -1}, "deadline=-1"),
        ({"deadline": float("nan")}, "deadline=nan"),
        ({"keep_result": -1}, "keep_result=-1"),
        ({"keep_result": float("nan")}, "keep_result=nan"),
        ({"keep_result": float("inf")}, "keep_result=inf"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(options, names):
    with pytest.raises(ConfigurationError, match="@task") as raised:
        task(**options)
    assert names in str(raised.value)


def test_zero_is_a_fair_keep_result():
    assert task(keep_result=0, retry=NEVER)(fetch).options.keep_result == 0


def test_an_annotation_that_cannot_be_resolved_shows_when_a_worker_asks_for_it_and_names_the_task():
    @task
    async def broken(ctx: Context, a: "Missing") -> None: ...  # noqa: F821

    with pytest.raises(ConfigurationError, match="task 'broken': an annotation cannot be resolved"):
        broken.arguments  # noqa: B018


class TestImporting:
    @pytest.fixture
    def modules(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)

        def write(name: str, text: str) -> str:
            (tmp_path / f"{name}.py").write_text(text)
            return name

        before = set(sys.modules)
        yield write
        for name in set(sys.modules) - before:
            del sys.modules[name]

    def test_importing_a_module_registers_its_tasks(self, modules):
        modules("shop_tasks", "from common import task\n@task\nasync def sell(ctx, n: int): ...\n")
        assert list(import_tasks(["shop_tasks"])) == ["sell"]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("shop_none", None, "cannot import 'shop_none': no module named 'shop_none'"),
            ("shop_none.deeper", None, "cannot import 'shop_none.deeper': no module named 'shop_none'"),
            ("shop_needs", "import not_installed_xyz", "it imports 'not_installed_xyz', which is not installed"),
            ("shop_bad", "1 / 0", "importing 'shop_bad' failed: ZeroDivisionError"),
            ("shop_syntax", "def", "importing 'shop_syntax' failed: SyntaxError"),
        ],
    )
    def test_a_module_that_cannot_be_imported_is_named_with_the_reason(self, modules, name, text, message):
        if text is not None:
            modules(name, text)
        with pytest.raises(ConfigurationError, match="BARQUE_TASKS") as raised:
            import_tasks([name])
        assert message in str(raised.value)

    def test_duplicates_across_modules_stay_duplicates(self, modules):
        for name in ("shop_one", "shop_two"):
            modules(name, "from common import task\n@task\nasync def sell(ctx): ...\n")
        with pytest.raises(DuplicateTask) as raised:
            import_tasks(["shop_one", "shop_two"])
        assert "shop_one.py:2" in str(raised.value)
        assert "shop_two.py:2" in str(raised.value)

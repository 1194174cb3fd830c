"""common/redis/lua/: each script's header against the code around it, and prelude.lua against keys.py."""

import asyncio
import hashlib
import inspect
import re
from importlib import resources
from typing import get_args, get_type_hints

import pytest

from common.codec import MSGPACK_ONLY
from common.redis import contents, control, dead_letters, keys, limits, listing, progress, schedules, scripts, unique
from common.redis.contents import LARGEST_LISTED
from common.redis.control import Abort, ControlStore
from common.redis.dead_letters import DeadStore
from common.redis.limits import Ask, Leaver, LimitStore, gate
from common.redis.listing import ListingStore, Spot
from common.redis.progress import ProgressStore, Report
from common.redis.schedules import Declaration, Plan, PlannedTick, ScheduleStore
from common.redis.store import Enqueue, Finish, HeldLease, Letter, Order, PutBack, Rank, Store
from common.redis.unique import Signed, UniqueEnqueue, UniqueStore
from common.uniqueness import Rule, UniqueTick

MODULES = (scripts, control, schedules, dead_letters, progress, unique, limits, listing, contents)
SCRIPTS = {script.name: script for module in MODULES for script in module.SCRIPTS}
PRELUDES = {"prelude", "push_prelude", "unique_prelude", "gates_prelude", "lanes_prelude", "waits_prelude"}
FOLDER = resources.files("common.redis") / "lua"


def header(name: str) -> str:
    """Return the comment a script starts with, without its dashes."""
    lines = []
    for line in (FOLDER / f"{name}.lua").read_text("utf-8").splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").removeprefix(" "))
    return "\n".join(lines)


def part(name: str, title: str) -> str:
    """Return what stands under one title of the header, such as ARGV."""
    found = re.search(rf"^{title}: (.*?)(?=^\w+: |^$|\Z)", header(name), re.MULTILINE | re.DOTALL)
    assert found, f"{name}.lua has no {title}"
    return " ".join(found[1].split())


def test_every_file_is_a_script_and_every_script_a_file():
    files = {path.name.removesuffix(".lua") for path in FOLDER.iterdir() if path.name.endswith(".lua")}
    assert files - PRELUDES == SCRIPTS.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_is_for_what_it_takes_returns_and_holds_to(name):
    assert re.match(rf"{name}: [a-z].*\.$", header(name).splitlines()[0])
    titles = re.findall(r"^(\w+): ", header(name), re.MULTILINE)
    assert titles[1:5] == ["KEYS", "ARGV", "Returns", "Invariant"]


class Server:
    """Takes the place of the call to the server and keeps what was sent."""

    def __init__(self, monkeypatch, reply) -> None:
        self.sent: list[tuple[list, list]] = []

        async def run(script, client, keys, arguments):
            self.sent.append((list(keys), [a.decode() if isinstance(a, bytes) else a for a in arguments]))
            return reply

        monkeypatch.setattr(scripts.Script, "__call__", run)


LEASE = HeldLease(1, "id", "token", 3)
RATE, PLACES = gate("rate", "r", "k", 41, (20.4, 2)), gate("concurrency", "p", None, 42, (5,))
ASK = Ask(LEASE, 4, 51, "reserved", 5, ((RATE, 2.0), (PLACES, 1.0)))
GATES = [RATE.id, "rate", "r", "k", 41, "20.399999999999999", "2", *"0000"]
GATES += ["concurrency:p", "concurrency", "p", "", 42, "5", *"00000"]

SCHEDULES = [
    keys.SCHEDULES, keys.SCHEDULES_NEXT, keys.SCHEDULES_LAST, keys.SCHEDULES_DECLARED, keys.SCHEDULES_REVISION,
]  # fmt: skip
TICKS = [12, 13, "id", "P", 14, 15, "id", "P"]
UNIQUE_TICK = UniqueTick("k", "done", 17)
RULE = Rule("done", 14, "replace", at_most_ms=15)
PLAN = Plan("n", "q", 11, "once", True, [PlannedTick(12, 13, "id", b"P"), PlannedTick(14, 15, "id", b"P")], 16)

# What the typed wrapper sends, beside the words of the header in the order it must have.
WIRE = {
    "enqueue": (
        [0, 1],
        lambda s: s.enqueue([Enqueue("q", "f", b"F"), Enqueue("q", "o", b"O", False, 11, 12, 13)]),
        ["q"],
        [1, "f", "F", "o", "O", 11, 12, 13],
        ["number of fresh jobs", "id", "payload", "id", "payload", "delay ms", "due at", "expires after ms"],
    ),
    "enqueue_ranked": (
        [0, 1],
        lambda s: s.enqueue(
            [Enqueue("q", "f", b"F", rank=Rank(3)), Enqueue("q", "o", b"O", False, 11, 12, 13, Rank(4, "ab"))]
        ),
        ["q"],
        [1, "f", "F", 3, "", "o", "O", 11, 12, 13, 4, "ab"],
        [
            *("number of fresh jobs", "id", "payload", "priority", "lane"),
            *("id", "payload", "delay ms", "due at", "expires after ms", "priority", "lane"),
        ],
    ),
    "claim": (
        [1, -1, 0, [], [], []],
        lambda s: s.claim(("q", "r"), most=5, lease_ms=6, worker="w", number=7, order=Order((3, 1), 8)),
        ["q", "r"],
        [5, 6, "w", 7, 0, 8, 3, 1],
        [
            *("most jobs to take", "lease ms", "worker id", "number of this claim", "whose reply did not come"),
            *("ms after which", "the weight of each"),
        ],
    ),
    "complete": (
        [[], []],
        lambda s: s.complete(
            ("q", "r"),
            [
                Finish(LEASE, b"D", 31, 32, Letter(b"P", b"A", b"T", 33, 34, b"E")),
                Finish(LEASE, b"R", 21, 22),
                PutBack(LEASE, "retry", 23, 5, "ab", b"E"),
            ],
        ),
        ["q", "r"],
        [
            *(0, "finish", 1, 3, 21, 22, 1, "id", "token", "R", "retry", 1, 3, 5, "ab", 1, "id", "token", 23, "E"),
            *("bury", 1, 3, 31, 32, 1, 33, 34, "id", "token", "D", "P", "A", "T", "E"),
        ],
        [
            *("sent before", "kind", "index of its queue", "attempt", "x", "y", "number of outcomes"),
            *("id", "token", "z", "keep the letters for ms", "most letters", "payload", "about it", "traceback"),
            "entry for the job's history",
        ],
    ),
    "renew": (
        [[], []],
        lambda s: s.renew(("q", "r"), [LEASE], lease_ms=9),
        ["q", "r"],
        [9, 1, "id", "token"],
        ["lease ms", "index of its queue", "id", "token"],
    ),
    "await": ([0, 0], lambda s: s.await_results("c", ["a", "b"]), [], ["c", "a", "b"], ["channel", "job ids"]),
    "abort": (
        [0, 1],
        lambda s: ControlStore(s.client).abort("q", [Abort("a", b"R"), Abort("b", b"S", b"P")], keep_ms=9),
        ["q"],
        [9, 0, "a", "", "R", "b", hashlib.sha1(b"P").hexdigest(), "S"],
        ["keep the results for ms", "leave alone what runs", "id", "SHA-1 of the payload", "result to store"],
    ),
    "reschedule": (
        [b"moved", 8],
        lambda s: ControlStore(s.client).reschedule("q", "id", delay_ms=6, at_ms=7),
        ["q"],
        ["id", 6, 7],
        ["id", "due after ms", "due at"],
    ),
    "pause": (
        [b"paused", b"5 said"],
        lambda s: ControlStore(s.client).pause("queue", "q", b"said"),
        [],
        ["queue", "q", "said", 1000],
        ['"queue" or "task"', "its name", "what is said of it", "most pauses"],
    ),
    "resume": (
        1,
        lambda s: ControlStore(s.client).resume("task", "t"),
        [],
        ["task", "t", "door:t"],
        ['"queue" or "task"', "its name", "id of the task's door"],
    ),
    "call_up": (
        0,
        lambda s: ControlStore(s.client).call_up("t"),
        [],
        ["t", "door:t", 500],
        ["the task's name", "id of its door", "most jobs"],
    ),
    "tick": (
        [1, 0],
        lambda s: ScheduleStore(s.client).tick(
            b"7",
            [PLAN, PLAN._replace(queue="r", overlap=False, following_ms=None, unique=UNIQUE_TICK, rank=Rank(9, "ab"))],
            now_ms=8,
        ),
        [*SCHEDULES, "q", "r"],
        [
            "7",
            8,
            60_000,
            60_000,
            "n",
            0,
            11,
            "once",
            1,
            *("", "", 0, 0, ""),
            16,
            2,
            *TICKS,
            "n",
            1,
            11,
            "once",
            0,
            *("k", "done", 17, 9, "ab"),
            -1,
            2,
            *TICKS,
        ],
        [
            *("revision", "now as", "ms a declaration", "ms of grace", "name", "index of its queue", "next tick"),
            *(
                "overlap",
                "unique key",
                "until",
                "window ms",
                "priority and lane",
                "tick after",
                "number",
                "tick (Unix ms)",
                "delay ms",
                "job id",
                "payload",
            ),
        ],
    ),
    "declare": (
        [b"current", b"older"],
        lambda s: ScheduleStore(s.client).declare([Declaration("n", "d", b"R", 11), Declaration("m", "e", b"S", None)]),
        [*SCHEDULES, keys.SCHEDULES_PAUSED],
        [60_000, 604_800_000, "n", "d", "R", 11, "m", "e", "S", -1],
        ["ms a declaration", "forgotten", "name", "digest", "record", "first tick"],
    ),
    "add_schedule": (
        b"added",
        lambda s: ScheduleStore(s.client).add("n", b"R", 11, replace=True),
        [*SCHEDULES, keys.SCHEDULES_PAUSED],
        ["n", "R", 11, 1, 60_000],
        ["name", "record", "first tick", "1 to change", "ms a declaration"],
    ),
    "remove_schedule": (
        b"removed",
        lambda s: ScheduleStore(s.client).remove("n"),
        [*SCHEDULES, keys.SCHEDULES_PAUSED],
        ["n", 60_000],
        ["name", "ms a declaration"],
    ),
    "pause_schedule": (
        b"done",
        lambda s: ScheduleStore(s.client).resume("n", 11),
        [*SCHEDULES, keys.SCHEDULES_PAUSED],
        ["n", 11],
        ["name", "first tick"],
    ),
    "report": (
        [1, 0],
        lambda s: ProgressStore(s.client).report(
            [Report("a", "token", 11, b"P", 3, [b"X", b"Y"]), Report("b", "t", -1, None, 1, [])]
        ),
        [],
        ["a", "token", 11, "P", 2, 3, "X", 4, "Y", "b", "t", -1, "", 0],
        ["id", "token", "keep for ms", "progress", "number of items", "its number", "the item"],
    ),
    "watch": (
        [None, b"P"],
        lambda s: ProgressStore(s.client).watch("c", ["a", "b"]),
        [],
        ["c", 30_000, "a", "b"],
        ["channel", "for ms", "job ids"],
    ),
    "enqueue_unique": (
        [b"added", b"id", b"q", b"sign", b"other", b"r"],
        lambda s: UniqueStore(s.client).enqueue(
            [
                UniqueEnqueue(Enqueue("q", "id", b"P", False, 11, 12, 13, Rank(7)), "k", RULE, minted=True),
                UniqueEnqueue(Enqueue("q", "o", b"O", False), "l", RULE, minted=False, signed=Signed("x", "r", b"X")),
            ]
        ),
        ["q", "r"],
        [
            *(0, "k", "id", "P", 1, 11, 12, 13, "done", 14, "replace", 15, -1, "", "", 7, ""),
            *(0, "l", "o", "O", 0, 0, 0, 0, "done", 14, "replace", 15, 1, "x", "X", 0, ""),
        ],
        [
            *("index of its queue", "unique key", "id", "payload", "1 if the id is", "delay ms", "due at", "expires"),
            *("until", "window ms", "on conflict", "at most ms", "index of the queue that", "id that it is signed for"),
            *("the other payload", "priority", "lane"),
        ],
    ),
    "admit": (
        [[[b"start", b"1.5", 51, b"49", b"rate:r"]], [[1, b"half_open"]]],
        lambda s: LimitStore(s.client).admit(
            ("q", "r"),
            [Ask(LEASE, 4, 51, "reserved", 5, ((RATE, 2.0), (PLACES, 1.0)))],
            lease_ms=9,
            wait_ms=8,
            lead_ms=7,
            watched=True,
        ),
        ["q", "r"],
        [9, 8, 7, 2, "1", *GATES, "id", "token", 1, 4, 51, "reserved", 5, 2, 0, "2", 1, "1"],
        [
            *("lease ms", "waits by itself", "before its time", "number of gates", "is to be known", "id", "kind"),
            *("name", "key", "keep ms", "a to f", "id", "token", "index of its queue", "attempt", "due at", "a word"),
            *("priority", "number of its gates"),
            *("index", "cost"),
        ],
    ),
    "leave": (
        [[0, b"opened", 5, 4, 3]],
        lambda s: LimitStore(s.client).leave(
            [Leaver(RATE, "id", "token", "hold", 6), Leaver(PLACES, "id", "token")], lease_ms=9
        ),
        [],
        [9, 2, *GATES, 0, "id", "token", "hold", 6, 1, "id", "token", "", 0],
        ["lease ms", "number of gates", "five", "index", "id", "token", "word", "ms"],
    ),
    "stand_aside": (
        1,
        lambda s: LimitStore(s.client).stand_aside(["q", "r"], [LEASE]),
        ["q", "r"],
        [1, "id", "token"],
        ["index", "id", "token"],
    ),
    "contents": (
        [b"a", None, 5, -1],
        lambda s: ListingStore(s.client, MSGPACK_ONLY).payloads([b"a", b"b", b"c", b"d"]),
        [],
        [LARGEST_LISTED, 2**20, "", "arq:job:a", "arq:job:b", "arq:job:c", "arq:job:d"],
        ["most bytes of one", "most bytes of all", "field", "names of keys"],
    ),
    "page": (
        [5, b"id", b"7"],
        lambda s: ListingStore(s.client, MSGPACK_ONLY).due("q", Spot("6", b"id"), 9),
        ["q"],
        ["due", "6", "id", 9],
        ['"due"', "score", "id of the job", "most jobs"],
    ),
    "delete_dead": (2, lambda s: DeadStore(s.client).delete(["a", "b"]), [], ["a", "b"], ["job ids"]),
    "replay_dead": (
        [1, -1],
        lambda s: DeadStore(Letters()).replay(["a", "b"], delay_ms=9),
        ["q"],
        [9, "a", "b"],
        ["due again after ms", "job ids"],
    ),
}


class Letters:
    """A server on which each letter says that its queue is q."""

    def pipeline(self, *, transaction: bool) -> "Letters":
        return self

    def hget(self, *_: object) -> None: ...

    async def execute(self, *, raise_on_error: bool) -> list[bytes]:
        return [b"q", b"q"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_wrapper_sends_its_arguments_in_the_headers_order(name, monkeypatch):
    reply, call, sent_keys, sent_arguments, words = WIRE[name]
    server = Server(monkeypatch, reply)
    asyncio.run(call(Store(None)))
    assert server.sent == [(sent_keys, sent_arguments)]
    text, at = part(name, "ARGV"), 0
    for word in words:
        found = text.find(word, at)
        assert found >= 0, f"{name}.lua: ARGV has no {word!r} after position {at}: {text}"
        at = found + len(word)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_keys_line_says_as_many_keys_as_are_sent(name):
    sent = WIRE[name][2]
    expected = {0: "none", 1: "1 queue", 2: "queues"}.get(len(sent), "1 schedules, 2 their next ticks, 3 their last")
    assert part(name, "KEYS").startswith(expected)


def test_the_strides_are_the_ones_the_headers_tell():
    assert "for each group six" in part("complete", "ARGV")
    assert "for each outcome three" in part("complete", "ARGV")
    assert "HEAD, STRIDE = 6, 3" in SCRIPTS["complete"].source
    assert "The group has two more" in header("complete")
    assert "each outcome four more" in header("complete")
    assert "BURY_HEAD, BURY_STRIDE = 6 + 2, 3 + 4" in SCRIPTS["complete"].source
    assert "Each outcome of the last three has one more" in header("complete")
    assert "return HEAD, STRIDE + 1" in SCRIPTS["complete"].source
    assert "for each attempt three" in part("renew", "ARGV")
    assert "STRIDE = 3" in SCRIPTS["renew"].source
    assert "for each job five" in part("report", "ARGV")
    assert "for each item two" in part("report", "ARGV")
    assert "HEAD, STRIDE = 5, 2" in SCRIPTS["report"].source


def test_the_words_of_a_unique_enqueue_are_the_ones_the_header_tells():
    told = set(re.findall(r'"(\w+)"', part("enqueue_unique", "Returns")))
    assert told == set(get_args(unique.Word))
    assert set(re.findall(r"'(added|there|replaced|rejected|sign|refused)'", lua("enqueue_unique"))) == told
    assert "for each job seventeen" in part("enqueue_unique", "ARGV")
    assert "STRIDE = 17" in lua("enqueue_unique")
    rules = set(re.findall(r'"(\w+)"', part("enqueue_unique", "ARGV")))
    hints = get_type_hints(Rule)
    assert rules == {*get_args(hints["until"]), *get_args(hints["on_conflict"])}


def test_the_words_and_the_stride_of_limits_are_the_ones_the_headers_tell():
    assert len(RATE.arguments()) == 11
    assert "for each gate eleven" in part("admit", "ARGV")
    assert "GATE = 11" in lua("gates_prelude")
    words = set(re.findall(r"return \{ '(\w+)'", lua("admit"))) | set(re.findall(r"= \{ '(\w+)' \}", lua("admit")))
    assert words == {"start", "held", "lost", "aborted"} == set(get_args(limits.Word))
    assert words <= set(re.findall(r'"(\w+)"', part("admit", "Returns")))
    told = set(re.findall(r'"(\w*)"', part("leave", "ARGV")))
    assert told == set(get_args(limits.Left))


def test_the_kinds_of_outcome_are_the_ones_the_header_tells():
    told = set(re.findall(r'kind "(\w+)"', header("complete")))
    assert told == {"finish", "bury", "retry", "return", "release"}


def test_the_words_for_what_became_of_ticks_are_the_ones_the_headers_tell():
    assert set(re.findall(r'"(\w+)"', part("tick", "Returns"))) == set(get_args(schedules.Word))
    assert set(re.findall(r"return '(\w+)'", lua("tick"))) | {"ran", "passed", "busy", "held"} == set(
        get_args(schedules.Word)
    )
    for name in ("declare", "add_schedule", "remove_schedule", "pause_schedule"):
        words = set(re.findall(r"'(\w+)'", "\n".join(re.findall(r"return .*'.*", lua(name)))))
        assert set(re.findall(r'"(\w+)"', part(name, "Returns"))) == words
    assert "HEAD, STRIDE = 5, 12, 4" in SCRIPTS["tick"].source


def lua(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text("utf-8")


def test_the_prelude_names_the_keys_as_keys_py_does():
    text = (FOLDER / "prelude.lua").read_text("utf-8")
    found: dict[str, str] = {}
    for names, values in re.findall(r"^local ([A-Z_, ]+) = ('.*')$", text, re.MULTILINE):
        found |= dict(zip(names.split(", "), re.findall(r"'([^']*)'", values), strict=True))
    assert found.pop("DONE") == "done"
    assert found.pop("MEANT") == ".25"
    assert found == {
        "JOB": keys.JOB, "LEASE": keys.LEASE, "RETRY": keys.RETRY, "RESULT": keys.RESULT, "ABORT": keys.ABORT,
        "WAKE": keys.WAKE, "WAITERS": keys.WAITERS, "AWAITED": keys.AWAITED, "CONTROL": keys.CONTROL_CHANNEL,
        "PROGRESS": keys.PROGRESS, "STREAM": keys.STREAM, "WATCHERS": keys.WATCHERS, "ATTEMPTS": keys.ATTEMPTS,
        "LIFT": keys.LIFT, "LANES": keys.LANES, "FAIR": keys.FAIR, "LANED": keys.LANED, "LANE": keys.LANE,
       "LIMIT": keys.LIMIT, "LIMIT_HELD": keys.LIMIT_HELD, "LIMIT_LANE": keys.LIMIT_LANE,
        "LIMIT_WAIT": keys.LIMIT_WAIT, "LIMITS": keys.LIMITS,
        "DEAD": keys.DEAD, "ABOUT": keys.DEAD_ABOUT, "LETTER": keys.DEAD_LETTER,
        "PAUSED": keys.PAUSED, "UNIQUE": keys.UNIQUE, "UNIQUES": keys.UNIQUES,
    }  # fmt: skip


@pytest.mark.parametrize("name", [*SCRIPTS, "unique_prelude", "lanes_prelude"])
def test_no_script_names_a_key_of_its_own(name):
    text = (FOLDER / f"{name}.lua").read_text("utf-8")
    code = "\n".join(line.partition("--")[0] for line in text.splitlines())
    assert not re.search(r"arq:|barque:", code)


def test_every_key_function_is_exported_and_says_what_its_key_is():
    functions = {name for name, value in vars(keys).items() if inspect.isfunction(value)}
    assert functions <= set(keys.__all__)
    assert all(inspect.getdoc(getattr(keys, name)) for name in functions)


def test_a_scripts_digest_is_that_of_prelude_and_script():
    for script in SCRIPTS.values():
        assert script.source.startswith("-- prelude:")
        assert f"-- {script.name}: " in script.source
        assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()

"""Every block of code on README.md, CONTRIBUTING.md and docs/ is what it says: none is passed by.

Python blocks are held here to stand in the language that test_examples_in_pages.py and tests/typing look for; their
imports and types are those tests' business. Commands are not run: they and their options are there. What programs and
sessions do is shown by tests/integration/test_programs_of_pages.py and others beside it.
"""

import ast
import configparser
import json
import re
import tomllib

import pytest
import yaml

from common.errors import ConfigurationError
from common.setting_names import _NO_SETTINGS, _NO_SETTINGS_PREFIXES
from common.settings import Settings, load_settings
from dashboard.settings import DashboardSettings, load_dashboard_settings
from tests.support.command_lines import barque_fault, fault
from tests.support.page_blocks import ROOT, Block, blocks, spans
from tests.support.shell_lines import commands

SHELL = {"sh": False, "console": True}
LANGUAGES = {
    "python",
    "py",  # also Python, in the same colours: the program of another queue, which is not installed here
    "json",
    "yaml",
    "toml",
    "ini",
    "text",
    "diff",
    "dockerfile",
    "lua",
    "sql",
    "html",
    "nginx",
    *SHELL,
}
CODE = re.compile(
    r"^(?:from \w[\w.]* import |import \w|async def |def \w+\(|@\w+|\$ |(?:barque|make|pip|arq|docker) \w)",
    re.MULTILINE,
)
VARIABLE = re.compile(r"\bBARQUE_[A-Z0-9_]+(?![\w*…<{])")


def variables() -> set[str]:
    settings = {f"BARQUE_{name.upper()}" for name in Settings.names()}
    dashboard = {f"BARQUE_DASHBOARD_{name.upper()}" for name in DashboardSettings.model_fields}
    compose = set(VARIABLE.findall((ROOT / "docker-compose.yml").read_text("utf-8")))
    return settings | dashboard | compose | _NO_SETTINGS


def lines_of_shell() -> list[tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]]:
    return [
        (f"{block.page}:{block.line + command.line}", command.words, command.variables)
        for block in blocks(*SHELL)
        for command in commands(block.code, session=SHELL[block.language])
    ]


def test_there_are_blocks_and_commands_to_look_at():
    assert len(blocks()) > 100
    assert len(lines_of_shell()) > 100
    assert len([span for span in spans() if span.code.startswith("barque ")]) > 50


def test_every_block_says_its_language():
    """An indented one cannot. Of plain text, which is output or a drawing, the language is `text`."""
    assert [
        f"{block.place}: a block of {block.language or 'no language'}: give one of {sorted(LANGUAGES)}"
        for block in blocks()
        if block.language not in LANGUAGES
    ] == []


def test_what_is_called_text_is_no_code():
    found = [f"{block.place}: {code[0]!r}" for block in blocks("text") if (code := CODE.search(block.code))]
    assert found == []


def test_python_compiles_wherever_it_stands():
    for block in blocks("python"):
        compile(block.code, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_python_of_other_queues_compiles_and_stands_where_one_comes_from():
    """That it runs with them was seen, as those pages say."""
    for block in blocks("py"):
        assert block.page.startswith("docs/migrating/"), f"{block.place}: say `python`, so that it is checked"
        compile(block.code, block.place, "exec")


def test_commands_and_their_options_are_there():
    found = [f"{place}: {why}" for place, words, _ in lines_of_shell() if (why := fault(words))]
    assert found == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("barque wroker", "`barque` has no wroker"),
        ("barque worker --proceses 4", "No such option"),
        ("barque dead replya by-zero", "`barque dead` has no replya"),
        ("barque enqueue greet --timeout", "requires an argument"),
        ("barque worker --concurrency many", "Input should be a valid integer"),
        ("echo 5 | sudo barque wroker", "`barque` has no wroker"),
        ("BARQUE_TASKS=my_tasks arq --brust workers.WorkerSettings", "No such option"),
        ("make chekc", "no chekc"),
        ("make test ARG=-x", "knows no ARG"),
        ("docker compose up --scale wroker=4", "no service wroker"),
        ("docker compose --profile demos up", "no profile demos"),
        ("docker compose exec worker barque wroker", "`barque` has no wroker"),
        ("docker-compose upp", "no upp"),
        ("kubectl apply -k deploy/kubernets", "no deploy/kubernets"),
        ("pip install 'barque[dashbord]'", "no extra dashbord"),
        ("python examples/modle_api.py", "no examples/modle_api.py"),
        ("python -m benchmark --short", "no module benchmark"),
        ("python -m benchmarks --shrot", "knows no --shrot"),
        ("barqeu worker", "no program"),
    ],
)
def test_a_slip_in_a_command_is_seen(line, why):
    found = [said for command in commands(line, session=False) if (said := fault(command.words))]
    assert len(found) == 1
    assert why in found[0]


def test_commands_within_sentences_are_there():
    found = []
    for span in spans():
        if span.code.startswith("barque "):
            (command, *_) = commands(span.code, session=False)
            if why := barque_fault(command.words[1:], of_a_sentence=True):
                found.append(f"{span.page}:{span.line}: `{span.code}`: {why}")
        elif re.match(r"make [a-z]", span.code) and (why := fault(span.code.split()[:2])):
            found.append(f"{span.page}:{span.line}: {why}")
    assert found == []


def test_variables_are_settings():
    written = [(span.page, span.line, span.code) for span in spans()]
    for block in blocks(*LANGUAGES - {"text"}):  # what is printed may be about a variable that is none
        code = "".join(re.findall(r"^\$ .*\n", block.code, re.MULTILINE)) if block.language == "console" else block.code
        written.append((block.page, block.line, code))
    known = variables()
    found = [
        f"{page}:{line}: {name}"
        for page, line, code in written
        for name in VARIABLE.findall(code)
        if name not in known and not name.startswith(_NO_SETTINGS_PREFIXES) and not name.endswith("_")
    ]
    assert found == []


def test_the_values_that_variables_are_given_are_values_of_theirs(monkeypatch):
    found = []
    for place, words, given in lines_of_shell():
        exported = [tuple(word.split("=", 1)) for word in words[1:] if words[0] == "export" and "=" in word]
        for name, value in [*given, *exported]:
            if (
                not name.startswith("BARQUE_")
                or re.search(r"[$…]", value)
                or name.startswith(_NO_SETTINGS_PREFIXES[:-1])
            ):
                continue
            with monkeypatch.context() as environment:
                environment.setenv(name, value)
                try:
                    load_dashboard_settings() if name.startswith("BARQUE_DASHBOARD_") else load_settings()
                except ConfigurationError as error:
                    found.append(f"{place}: {error}")
    assert found == []


def json_values(code: str) -> None:
    try:
        json.loads(code)
    except ValueError:
        for line in code.splitlines():
            json.loads(line)


READERS = {
    "json": json_values,
    "yaml": lambda code: list(yaml.safe_load_all(code)),
    "toml": tomllib.loads,
    "ini": lambda code: configparser.ConfigParser(interpolation=None).read_string(code),
}


@pytest.mark.parametrize("block", blocks(*READERS), ids=lambda block: block.place)
def test_data_can_be_read(block: Block):
    READERS[block.language](block.code)


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.place)
def test_toml_is_a_barque_toml_that_can_be_loaded(block: Block, tmp_path, monkeypatch):
    """Unless it is part of another file of TOML, which has only tables."""
    if all(isinstance(value, dict) for value in tomllib.loads(block.code).values()) and "[dashboard]" not in block.code:
        pytest.skip("not of Barque's")
    (tmp_path / "barque.toml").write_text(block.code, "utf-8")
    monkeypatch.setenv("BARQUE_CONFIG", str(tmp_path / "barque.toml"))
    assert load_settings() != Settings.of({})
    load_dashboard_settings()

"""What stands in .env.example and docs/configuration.md, and what `barque config --toml` and `--env` print."""

import re
from pathlib import Path

import pytest

from cli.setting_files import env_text, renewed_example, renewed_page, settings_tables, toml_text
from common.setting_reader import reader
from common.settings import Settings, load_settings
from dashboard.settings import DashboardSettings, load_dashboard_settings

ROOT = Path(__file__).parents[2]
KINDS = (reader(Settings), DashboardSettings)
EVERY = [kind.model_config["env_prefix"] + name.upper() for kind in KINDS for name in kind.model_fields]


@pytest.mark.parametrize(
    ("path", "renewed"), [(".env.example", renewed_example), ("docs/configuration.md", renewed_page)]
)
def test_it_has_every_setting_as_it_is(path, renewed):
    text = (ROOT / path).read_text("utf-8")
    assert text == renewed(text), "run `make settings`"


def test_every_setting_has_its_line_with_its_default_and_one_that_explains_it():
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    for name in EVERY:
        at = [index for index, line in enumerate(lines) if line.startswith(f"#{name}=")]
        assert len(at) == 1, name
        assert re.match(r"# \w", lines[at[0] - 1]), name
    assert "#BARQUE_LEASE=10s" in lines
    tables = settings_tables()
    assert [name for name in EVERY if tables.count(f"| `{name}` |") != 1] == []


def test_a_section_begins_with_a_setting_there_is_and_none_stands_before_the_first():
    for kind in KINDS:
        assert kind.sections.keys() <= kind.model_fields.keys()
        assert next(iter(kind.model_fields)) in kind.sections


def uncommented(text, pattern):
    """Return the text with the settings in it that have a default."""
    kept, comment = [], ""
    for line in text.splitlines():
        if re.match(pattern, line):
            kept.append("" if comment.endswith("Not set by default.") else line[1:])
            comment = ""
        else:
            comment = comment + line[1:] if line.startswith("# ") else ""
            kept.append(line)
    return "\n".join(kept)


def test_a_toml_file_with_all_comments_taken_off_says_the_defaults(monkeypatch, tmp_path):
    defaults, of_dashboard = load_settings(), load_dashboard_settings()
    text = uncommented(toml_text(), r"#\w+ = ")
    (tmp_path / "all.toml").write_text(text)
    monkeypatch.setenv("BARQUE_CONFIG", str(tmp_path / "all.toml"))
    assert load_settings() == defaults
    assert load_dashboard_settings() == of_dashboard
    assert len(load_settings().given) >= 40


def test_a_dotenv_file_with_all_comments_taken_off_says_the_defaults(monkeypatch, tmp_path):
    defaults, of_dashboard = load_settings(), load_dashboard_settings()
    (tmp_path / ".env").write_text(uncommented(env_text(), r"#BARQUE_(?!CONFIG)\w+="))
    monkeypatch.setattr("common.setting_names.ENV_FILE", tmp_path / ".env")
    assert load_settings() == defaults
    assert load_dashboard_settings() == of_dashboard
    assert len(load_settings().given) >= 40


def test_a_table_holds_no_sign_that_ends_a_cell():
    for row in re.findall(r"^\|.*\|$", settings_tables(), re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


def test_the_file_on_the_page_is_one_that_is_read(monkeypatch, tmp_path):
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    (tmp_path / "page.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    monkeypatch.setenv("BARQUE_CONFIG", str(tmp_path / "page.toml"))
    assert load_settings().queues.by_name() == {"high": 6, "default": 3, "low": 1}
    assert load_dashboard_settings().read_only

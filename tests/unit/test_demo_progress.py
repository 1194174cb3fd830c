"""How the demo's progress looks: bars where they can be drawn, lines where they cannot."""

import io
import re

import pytest
from rich.console import Console

from cli.demo import progress
from cli.demo.progress import BarView, Counts, LineView, make_view

COUNTS = Counts(total=1790, fetched=900, stored=800, failed=1, retries=12, timeouts=3, last="json/decoder.py")


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("terminal", "term", "kind"), [(True, "xterm", BarView), (True, "dumb", LineView), (False, "xterm", LineView)]
)
def test_bars_need_a_terminal_that_can_draw_them(monkeypatch, terminal, term, kind):
    monkeypatch.setenv("TERM", term)
    assert isinstance(make_view(Console(file=io.StringIO(), force_terminal=terminal)), kind)


def test_lines_come_every_few_seconds_and_at_the_end(clock):
    out = io.StringIO()
    view = LineView(Console(file=out, width=80))
    view.start()
    for second in range(7):
        clock[0] = 100.0 + second
        view.update(COUNTS)
    view.stop(COUNTS)
    lines = out.getvalue().splitlines()
    assert [line.split(" s ")[0].strip() for line in lines] == ["3.0", "6.0", "6.0"]
    assert "fetched 900/1,790, stored 800 | retries 12 | timeouts 3 | failed 1" in lines[0]


@pytest.mark.parametrize("no_color", [True, False])
def test_bars_fit_the_width_and_heed_no_color(no_color):
    out = io.StringIO()
    view = BarView(Console(file=out, width=80, height=24, force_terminal=True, no_color=no_color, color_system="256"))
    view.start()
    view.update(COUNTS)
    view.stop(COUNTS)
    written = out.getvalue()
    assert bool(re.search(r"\x1b\[[0-9;]*[34]8;5;", written)) is not no_color
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "900/1790" in text
    assert "json/decoder.py" in text
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= 80
    assert "\x1b[?25h" in written, "the cursor is back"


def test_a_view_that_was_never_started_can_be_stopped():
    view = BarView(Console(file=io.StringIO(), force_terminal=True))
    view.stop()


def test_text_from_elsewhere_is_shown_not_obeyed():
    out = io.StringIO()
    LineView(Console(file=out, width=80)).say("[red]\x1b[2J")
    assert out.getvalue() == "[red]\\x1b[2J\n"

"""The table of a job's attempts fits the terminal, and loses nothing of what they said."""

from datetime import UTC, datetime

import pytest

from cli.attempts_view import timeline
from cli.output import show
from common.attempts import AttemptInfo
from common.jobs import RemoteError

WORDS = "503, message='Service Unavailable', url='http://127.0.0.1:8100/Reykjavik'"


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_an_error_is_whole_however_narrow_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    attempt = AttemptInfo(
        number=1,
        outcome="retried",
        started_at=moment,
        finished_at=moment,
        worker="web1-14852-ce1087",
        error=RemoteError(type="aiohttp.client_exceptions.ClientResponseError", message=WORDS),
        retry_in=1.5,
    )
    show(*timeline([attempt], 0))
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= columns for line in lines)
    said = next(line for line in lines if "Said" in line).index("Said")
    shown = "".join(line[said:].strip() for line in lines[2:]).replace(" ", "")
    assert shown == f"aiohttp.client_exceptions.ClientResponseError:{WORDS};dueagainafter1.5s".replace(" ", "")

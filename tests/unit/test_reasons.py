"""common/redis/reasons.py: what an error means, and what of it may be told."""

import pytest
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from common.redis.reasons import may_have_run, reason


def of_a_pipeline(error: Exception) -> Exception:
    Pipeline.annotate_exception(None, error, 1, ("SET", "arq:job:1", "s3cr3t"))
    assert "s3cr3t" in str(error)
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ResponseError("WRONGTYPE Operation against a key"), "the server refuses: WRONGTYPE Operation against a key"),
        (OutOfMemoryError("command not allowed"), "the server refuses: command not allowed"),
        (ReadOnlyError("You can't write"), "the server is a read-only replica"),
    ],
)
def test_the_command_that_a_pipelines_error_quotes_is_left_out(error, says):
    assert reason(of_a_pipeline(error))[0] == says


@pytest.mark.parametrize(
    ("error", "perhaps"),
    [
        (ConnectionLost("Connection closed by server."), True),
        (ConnectionLost("Error while reading from 127.0.0.1:6379 : (104, 'Connection reset by peer')"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (ConnectionLost("Error 111 connecting to 127.0.0.1:6379. Connect call failed"), False),
        (ResponseError("OOM command not allowed"), False),
        (ReadOnlyError("You can't write against a read only replica."), False),
    ],
)
def test_it_is_known_after_which_errors_a_command_may_have_run(error, perhaps):
    assert may_have_run(error) is perhaps

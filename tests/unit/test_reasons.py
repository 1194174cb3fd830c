"""common/redis/reasons.py: what an error means, and what of it may be told."""

import socket
import ssl

import pytest
from redis import exceptions
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.sentinel import MasterNotFoundError

from common.redis.reasons import may_have_run, may_pass, reason


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


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(111, "Connection refused"), True),
        (ConnectionLost("Error 111 connecting to 127.0.0.1:6379. Connect call failed"), True),
        (socket.gaierror(-2, "Name or service not known"), True),
        (FileNotFoundError(2, "No such file or directory"), True),
        (TimeoutError(), True),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), True),
        (ConnectionLost("max number of clients reached"), True),
        (ResponseError("MASTERDOWN Link with MASTER is down"), True),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), True),
        (exceptions.AuthenticationError("invalid username-password pair or user is disabled."), False),
        (exceptions.NoPermissionError("User worker has no permissions to run the 'ping' command"), False),
        (exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), False),
        (ResponseError("DENIED Redis is running in protected mode"), False),
        (ResponseError("DB index is out of range"), False),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), False),
        (PermissionError(13, "Permission denied"), False),
    ],
)
def test_it_is_known_what_may_be_over_in_a_moment(error, passes):
    assert may_pass(error) is passes


def test_what_an_error_came_of_counts_too():
    error = ConnectionLost("Error connecting")
    error.__context__ = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")  # as redis-py leaves it
    assert not may_pass(error)


@pytest.mark.parametrize(("why", "passes"), [("AuthenticationError('WRONGPASS')", False), ("TimeoutError()", True)])
def test_sentinels_that_refuse_us_do_so_the_next_time(why, passes):
    assert may_pass(MasterNotFoundError(f"No master found for 'mymaster' : {why}")) is passes

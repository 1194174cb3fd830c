"""The settings read into redis-py's options, errors into words: nothing here opens a connection."""

import ssl

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis import exceptions

from common.errors import ConfigurationError
from common.redis.address import connection_options, describe, parse_url, sentinels
from common.redis.connection import UNAVAILABLE, blocking_twin, check, connect, is_transient
from common.redis.reasons import reason
from common.secret import Secret
from common.settings import Settings

SECRET = "s3cr3t-p4ss"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://db.example/3", "redis://db.example:6379/3"),
        ("redis://db.example/3?db=4", "redis://db.example:6379/4"),
        (f"rediss://user:{SECRET}@db.example:6380", "rediss://db.example:6380/0"),
        ("redis://[::1]:7000/1", "redis://[::1]:7000/1"),
        (f"unix://:{SECRET}@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        (f"unix:///run/redis.sock?password={SECRET}", "unix:///run/redis.sock?db=0"),
    ],
)
def test_an_address_is_shown_without_who_or_what_opens_it(url, shown):
    assert describe(Settings(redis_url=url)) == shown
    assert SECRET not in repr(parse_url(url))


def test_percent_encoded_credentials_are_decoded():
    address = parse_url("redis://us%40er:p%2Fw%23@db.example")
    assert (address.username, address.password) == ("us@er", "p/w#")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@db.example/0",
        f"redis://user:{SECRET}#x@db.example/0",
        f"redis://:{SECRET}@db.example:99999/0",
        f"redis://:{SECRET}@db.example/abc",
        f"redis://:{SECRET}@db.example/-1",
        f"redis://:{SECRET}@db.example/0#x",
        f"redis://:{SECRET}@db.example/0?db=x",
        f"redis://:{SECRET}@db.example/0?nonsense=1",
        f"redis://:{SECRET}@db.example/0?decode_responses=True",
        f"redis://:{SECRET}@db.example/0?socket_timeout=-1",
        f"redis://:{SECRET}@db.example/0?socket_timeout=inf",
        f"redis://:{SECRET}@db.example/0?socket_keepalive=perhaps",
        f"redis://:{SECRET}@db.example/0?&",
        "unix://",
    ],
)
def test_a_malformed_url_is_refused_without_being_quoted(url):
    with pytest.raises(ConfigurationError, match="BARQUE_REDIS_URL") as caught:
        connect(Settings(redis_url=url))
    assert SECRET not in str(caught.value)


def test_what_the_url_says_wins_over_the_settings():
    options = connection_options(
        Settings(
            redis_url="redis://a:b@db.example?socket_connect_timeout=1.5",
            redis_username="c",
            redis_password=Secret("d"),
            redis_connect_timeout=9,
        )
    )
    assert (options["username"], options["password"]) == ("a", "b")
    assert options["socket_connect_timeout"] == 1.5
    assert options["decode_responses"] is False


def test_the_settings_fill_in_what_the_url_leaves_out():
    options = connection_options(
        Settings(redis_url="redis://db.example", redis_username="c", redis_password=Secret("d"))
    )
    assert (options["username"], options["password"]) == ("c", "d")


def test_a_user_without_a_password_is_refused():
    with pytest.raises(ConfigurationError, match="BARQUE_REDIS_PASSWORD"):
        connect(Settings(redis_url="redis://user@db.example"))


def test_tls_checks_certificate_and_host_name_unless_told_not_to():
    checked = connection_options(Settings(redis_url="rediss://db.example"))
    assert (checked["ssl_cert_reqs"], checked["ssl_check_hostname"]) == ("required", True)
    unchecked = connection_options(Settings(redis_url="rediss://db.example", redis_tls_verify=False))
    assert (unchecked["ssl_cert_reqs"], unchecked["ssl_check_hostname"]) == ("none", False)
    by_url = connection_options(Settings(redis_url="rediss://db.example?ssl_cert_reqs=none"))
    assert (by_url["ssl_cert_reqs"], by_url["ssl_check_hostname"]) == ("none", False)


def test_one_pem_file_may_hold_certificate_and_key(tmp_path):
    pem = tmp_path / "client.pem"
    pem.touch()
    options = connection_options(Settings(redis_url="rediss://db.example", redis_tls_cert=pem))
    assert options["ssl_certfile"] == options["ssl_keyfile"] == str(pem)


def test_tls_files_without_a_tls_url_are_refused(tmp_path):
    authority = tmp_path / "ca.pem"
    authority.touch()
    with pytest.raises(ConfigurationError, match="not rediss://"):
        connect(Settings(redis_url="redis://db.example", redis_tls_ca=authority))


def test_a_missing_tls_file_and_a_key_without_a_certificate_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"BARQUE_REDIS_TLS_CA: cannot read .*none\.pem"):
        connect(Settings(redis_url="rediss://db.example", redis_tls_ca=tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match=r"ssl_ca_certs: cannot read"):
        connect(Settings(redis_url=f"rediss://db.example?ssl_ca_certs={tmp_path}/none.pem"))
    key = tmp_path / "key.pem"
    key.touch()
    with pytest.raises(ConfigurationError, match="BARQUE_REDIS_TLS_CERT"):
        connect(Settings(redis_url="rediss://db.example", redis_tls_key=key))


def test_sentinels_are_read_with_their_own_credentials_and_the_urls_tls():
    settings = Settings(
        redis_url=f"rediss://:{SECRET}@ignored/5",
        redis_sentinels="one:1111, two ,[::1]:3333",
        redis_sentinel_service="orders",
        redis_sentinel_username="watch",
        redis_sentinel_password=Secret(SECRET),
    )
    found = sentinels(settings)
    assert found.nodes == (("one", 1111), ("two", 26379), ("::1", 3333))
    assert (found.options["username"], found.options["password"], found.options["ssl"]) == ("watch", SECRET, True)
    assert SECRET not in repr(found)
    assert "host" not in connection_options(settings)
    assert describe(settings) == "'orders' at the sentinels one:1111, two:26379, ::1:3333 (db 5, TLS)"
    pool = connect(settings).connection_pool
    assert pool.connection_class is redis.asyncio.sentinel.SentinelManagedSSLConnection


@pytest.mark.parametrize("nodes", ["host:port", f"redis://:{SECRET}@host:1", f":{SECRET}@host", ":26379"])
def test_a_malformed_sentinel_is_refused(nodes):
    with pytest.raises(ConfigurationError, match="BARQUE_REDIS_SENTINELS") as caught:
        connect(Settings(redis_sentinels=nodes))
    assert SECRET not in str(caught.value)


def test_sentinels_do_not_lead_to_a_unix_socket():
    with pytest.raises(ConfigurationError, match="Unix socket"):
        connect(Settings(redis_url="unix:///run/redis.sock", redis_sentinels="one"))


def test_a_client_name_is_made_fit_for_the_command():
    client = connect(Settings(), name="worker é\n1")
    assert client.connection_pool.connection_kwargs["client_name"] == "barque-worker-1"
    assert connect(Settings()).connection_pool.connection_kwargs["client_name"] == "barque"


def test_a_client_closes_its_own_pool():
    assert connect(Settings()).auto_close_connection_pool


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (Settings(), redis.Connection),
        (Settings(redis_url="rediss://db.example"), redis.SSLConnection),
        (Settings(redis_url="unix:///run/redis.sock"), redis.UnixDomainSocketConnection),
        (Settings(redis_sentinels="one"), redis.sentinel.SentinelManagedConnection),
        (
            Settings(redis_url="rediss://x", redis_sentinels="one"),
            redis.sentinel.SentinelManagedSSLConnection,
        ),
    ],
    ids=["tcp", "tls", "unix", "sentinel", "sentinel-tls"],
)
def test_a_twin_has_the_blocking_kind_of_connection_and_time_limits(settings, kind):
    with blocking_twin(connect(settings, name="worker"), timeout=2) as twin:
        pool = twin.connection_pool
        connection = pool.make_connection()  # which takes every option, or raises
        assert type(connection) is kind
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (2, 2)
        assert connection.client_name == "barque-worker-thread"


def test_a_twin_leaves_the_loops_own_things_behind():
    client = redis.asyncio.Redis(
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 3),
        retry_on_timeout=True,
        socket_connect_timeout=1,
        username="user",
        password=SECRET,
        db=7,
    )
    with blocking_twin(client) as twin:
        connection = twin.connection_pool.make_connection()
        assert (connection.username, connection.password, connection.db) == ("user", SECRET, 7)
        assert connection.socket_connect_timeout == 1
        assert connection.retry._retries == 0


def test_a_twin_of_sentinel_asks_the_same_sentinels():
    settings = Settings(
        redis_sentinels="one:1,two:2", redis_sentinel_service="orders", redis_sentinel_password=Secret(SECRET)
    )
    with blocking_twin(connect(settings), timeout=2) as twin:
        pool = twin.connection_pool
        assert pool.service_name == "orders"
        asked = [node.connection_pool.connection_kwargs for node in pool.sentinel_manager.sentinels]
        assert [(kwargs["host"], kwargs["port"]) for kwargs in asked] == [("one", 1), ("two", 2)]
        assert {kwargs["password"] for kwargs in asked} == {SECRET}
        assert {kwargs["socket_timeout"] for kwargs in asked} == {2}


def test_an_unknown_kind_of_connection_has_no_twin():
    class Strange(redis.asyncio.connection.AbstractConnection):
        pass

    pool = redis.asyncio.ConnectionPool(connection_class=Strange)
    with pytest.raises(ConfigurationError, match="Strange: no blocking form"):
        blocking_twin(redis.asyncio.Redis(connection_pool=pool))


@pytest.mark.parametrize(
    "make",
    [
        fakeredis.FakeAsyncRedis,
        lambda: fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(), db=3),
        lambda: fakeredis.FakeAsyncRedis.from_url("redis://fake.example/1"),
        lambda: fakeredis.aioredis.FakeRedis(version=(6,)),
    ],
    ids=["plain", "server", "url", "aioredis"],
)
async def test_a_twin_of_fakeredis_sees_the_same_data(make):
    client = make()
    await check(client, "a fake server")
    await client.set("key", "from the loop")
    with blocking_twin(client) as twin:
        assert twin.get("key") == b"from the loop"
        twin.set("key", "from the thread")
    assert await client.get("key") == b"from the thread"
    await client.delete("key")
    await client.aclose()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (exceptions.AuthenticationError("invalid username-password pair or user is disabled."), "does not accept"),
        (exceptions.AuthenticationError("Authentication required."), "wants a password"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "still loading"),
        (exceptions.NoPermissionError("User x has no permissions to run the 'ping' command"), "may not do this"),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "read-only replica"),
        (exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), "not a Redis server"),
        (exceptions.ConnectionError("max number of clients reached"), "as many clients as it allows"),
        (exceptions.ResponseError("DENIED Redis is running in protected mode"), "protected mode"),
        (exceptions.ConnectionError("Connection closed by server."), "closed at once"),
        (exceptions.TimeoutError("Timeout connecting to server"), "no answer in time"),
        (redis.sentinel.MasterNotFoundError("No master found for 'x'"), "know no working primary"),
        (
            redis.asyncio.sentinel.MasterNotFoundError("No master found : a - AuthenticationError('…')"),
            "refuses our credentials",
        ),
        (PermissionError(13, "Permission denied"), "may not open the socket"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLError(1, "[SSL] odd"), "TLS failed"),
        (RuntimeError(SECRET), "RuntimeError"),
    ],
)
def test_an_error_is_put_into_words(error, why):
    said, advice = reason(error)
    assert why in said
    assert advice
    assert "\n" not in said + advice
    assert SECRET not in said + advice


def test_what_an_error_was_raised_from_is_looked_at():
    error = exceptions.ConnectionError("Error 111")
    error.__context__ = ConnectionRefusedError(111, "refused")  # redis-py raises it without `from`
    assert "nothing listens there" in reason(error)[0]


def test_arguments_the_server_quotes_are_not_repeated():
    said, advice = reason(exceptions.ResponseError(f"unknown command 'X', with args beginning with: '{SECRET}'"))
    assert SECRET not in said + advice


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (exceptions.ConnectionError(), True),
        (exceptions.BusyLoadingError(), True),
        (exceptions.ReadOnlyError(), True),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), True),
        (exceptions.ResponseError("UNBLOCKED force unblock from blocking operation"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), False),
        (exceptions.NoPermissionError("this user has no permissions"), False),
        (ValueError(), False),
    ],
)
def test_errors_that_pass_are_told_from_errors_that_stay(error, transient):
    assert is_transient(error) is transient
    if isinstance(error, UNAVAILABLE):
        assert transient

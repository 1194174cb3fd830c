"""What `barque doctor` asks a server: is it one that a queue can be trusted to, and if not, what to change.

Owns the questions and the judgement of the answers. It only reads: no key, no setting and no script
stays behind. The judgements are plain functions of what INFO says, so that each can be tried on its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio
from redis.exceptions import NoPermissionError

from common.errors import ConfigurationError, RedisUnavailable
from common.redis.address import connection_options, parse_url
from common.redis.connection import UNAVAILABLE, ServerError, check, describe
from common.redis.durability import Confirmation, check_confirmation
from common.redis.keys import job
from common.redis.reasons import reason
from common.server_binary import OLDEST_VERSION
from common.settings import Settings

__all__ = ["Finding", "diagnose"]

Status = Literal["ok", "warn", "fail"]

_PINGS = 11
_SLOW_MS = 5.0
_SKEW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One question's answer.

    Attributes:
        status: "warn" works but may lose jobs, time or secrets; "fail" does not work.
        detail: what was found.
        advice: what to change, exactly; "" when nothing.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


async def diagnose(client: redis.asyncio.Redis, settings: Settings) -> list[Finding]:
    """Ask the server all there is to ask; takes some 30 round trips.

    Args:
        client: a client to the server, such as `connect` makes.
        settings: the settings it was made from.

    Returns:
        One finding a question, in the order to read them; a server that cannot be reached has one
        finding in all. Never raises for what the server says or does.
    """
    where = describe(settings)
    try:
        await check(client, where, timeout=settings.redis_connect_timeout)
    except RedisUnavailable as error:
        return [Finding("server", "fail", str(error), "until it answers, nothing else can be asked")]
    findings = [Finding("server", "ok", f"{where} answers")]
    try:
        # A server that hangs half-way is a finding too; the client itself has no time limit.
        async with asyncio.timeout(4 * settings.redis_connect_timeout):
            findings += await _read_state(client)
            findings.append(_judge_protection(client, settings))
            for ask in (_ask_scripts, _ask_clock, _ask_latency):
                findings.append(await _ask(ask, client, settings))
            if settings.durable or settings.durable_replicas:
                findings.append(await _ask(_ask_durability, client, settings))
    except UNAVAILABLE as error:
        why, advice = reason(error)
        findings.append(Finding("server", "fail", f"{where} was lost while being asked: {why}", advice))
    return findings


async def _read_state(client: redis.asyncio.Redis) -> list[Finding]:
    try:
        info: dict[str, Any] = await client.info("everything")
    except ServerError as error:
        return [_unreadable("state", "INFO", "+info", error)]
    config = await _read_config(client)
    return [
        _judge_version(info),
        _judge_role(info),
        _judge_cluster(info),
        _judge_persistence(info, config),
        _judge_eviction(info),
        _judge_memory(info),
    ]


async def _read_config(client: redis.asyncio.Redis) -> dict[str, str]:
    """Return what CONFIG says of persistence; nothing where a hosted service keeps it to itself."""
    found: dict[str, str] = {}
    for name in ("appendfsync", "save"):
        try:
            found |= await client.config_get(name)
        except ServerError:
            return {}
    return found


async def _ask(
    ask: Callable[[redis.asyncio.Redis, Settings], Awaitable[Finding]],
    client: redis.asyncio.Redis,
    settings: Settings,
) -> Finding:
    name = ask.__name__.removeprefix("_ask_")
    try:
        return await ask(client, settings)
    except UNAVAILABLE:
        raise
    except ServerError as error:
        command = {"clock": "TIME", "latency": "PING", "durability": "INFO"}.get(name, "EVAL")
        return _unreadable(name, command, f"+{command.lower()}", error)


async def _ask_scripts(client: redis.asyncio.Redis, settings: Settings) -> Finding:
    # Reading the keys that the real scripts use shows a user whose key patterns leave them out.
    keys = [*settings.queues, job("doctor"), "barque:doctor"]
    script: Any = client.eval("return redis.call('EXISTS', unpack(KEYS))", len(keys), *keys)
    try:
        await script
    except NoPermissionError as error:
        return Finding("scripts", "fail", *_refusal(error))
    except ServerError as error:
        if "permission" not in str(error).lower() and "acl" not in str(error).lower():
            why, advice = reason(error)
            return Finding("scripts", "fail", f"the server runs no scripts: {why}", advice)
        return Finding("scripts", "fail", *_refusal(error))
    return Finding("scripts", "ok", "Lua scripts run, and may read the queues' keys")


def _refusal(error: Exception) -> tuple[str, str]:
    why, _ = reason(error)
    return why, (
        "ACL SETUSER <user> +@all -@admin +info ~arq:* ~barque:* &barque:*, and a ~pattern for each queue "
        "whose name begins otherwise"
    )


async def _ask_durability(client: redis.asyncio.Redis, settings: Settings) -> Finding:
    wanted = Confirmation(settings.durable, settings.durable_replicas)
    try:
        await check_confirmation(client, describe(settings), wanted)
    except (ConfigurationError, RedisUnavailable) as error:
        return Finding("durability", "fail", f"enqueues are to be durable, and would fail: {error}")
    if wanted.replicas:
        there = int((await client.info("replication")).get("connected_slaves", 0))
        if there < wanted.replicas:
            return Finding(
                "durability",
                "fail",
                f"enqueues wait for {wanted.replicas} replicas, and there are {there}: each one fails",
                "bring the replicas back, or set BARQUE_DURABLE_REPLICAS to fewer",
            )
    return Finding("durability", "ok", f"the server confirms that jobs are {wanted}")


async def _ask_clock(client: redis.asyncio.Redis, settings: Settings) -> Finding:  # noqa: ARG001 (as its siblings)
    samples = []
    for _ in range(5):
        sent = time.time()
        began = time.monotonic()
        seconds, microseconds = await client.time()
        trip = time.monotonic() - began
        # The answer was made somewhere during the trip; half-way is off by half the trip at most.
        samples.append((trip, seconds + microseconds / 1e6 - (sent + trip / 2)))
    trip, skew = min(samples)
    return _judge_skew(skew, trip / 2)


async def _ask_latency(client: redis.asyncio.Redis, settings: Settings) -> Finding:  # noqa: ARG001 (as its siblings)
    trips = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        await client.ping()
        trips.append((time.perf_counter() - began) * 1000)
    return _judge_latency(statistics.median(trips))


def _judge_version(info: Mapping[str, Any]) -> Finding:
    kind = "Valkey" if "valkey_version" in info else "Redis"
    shown = str(info.get("valkey_version") or info.get("redis_version") or "unknown")
    # Valkey and its kin say in redis_version which Redis they are as good as.
    parts = str(info.get("redis_version", "")).split(".")
    version = tuple(int(part) for part in parts[:3] if part.isdigit())
    oldest = ".".join(map(str, OLDEST_VERSION))
    if version < OLDEST_VERSION:
        return Finding(
            "version",
            "fail",
            f"{kind} {shown}; Barque needs {oldest}",
            f"install Valkey, or Redis {oldest} or newer",
        )
    return Finding("version", "ok", f"{kind} {shown}")


def _judge_role(info: Mapping[str, Any]) -> Finding:
    if info.get("role") in {"slave", "replica"}:
        return Finding(
            "role",
            "fail",
            "a replica: it takes no writes",
            f"set BARQUE_REDIS_URL to its primary ({info.get('master_host')}:{info.get('master_port')}), "
            "or BARQUE_REDIS_SENTINELS, which follow a fail-over",
        )
    return Finding("role", "ok", f"a primary with {info.get('connected_slaves', 0)} replicas")


def _judge_cluster(info: Mapping[str, Any]) -> Finding:
    if int(info.get("cluster_enabled", 0)):
        return Finding(
            "cluster",
            "fail",
            "cluster mode is on: the keys of one job live in several slots, and no script may touch them all",
            "use a server with `cluster-enabled no`; for fail-over, Sentinel (BARQUE_REDIS_SENTINELS)",
        )
    return Finding("cluster", "ok", "cluster mode is off")


def _judge_persistence(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    switch_on = (
        "CONFIG SET appendonly yes, and `appendonly yes` and `appendfsync everysec` in the server's configuration"
    )
    if int(info.get("aof_enabled", 0)):
        return _judge_append_only(info, config)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding(
            "persistence",
            "fail",
            "the last snapshot failed: by default the server refuses writes until one succeeds",
            "see the server's log; most often the disk is full or `dir` cannot be written to",
        )
    if "save" not in config:
        return Finding("persistence", "warn", "no append-only file; snapshots unknown (CONFIG is refused)", switch_on)
    if config["save"]:
        return Finding(
            "persistence", "warn", f"snapshots only (save {config['save']}): a crash loses what came since", switch_on
        )
    return Finding("persistence", "warn", "none: a restart of the server loses every job", switch_on)


def _judge_append_only(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            "persistence",
            "fail",
            "the append-only file cannot be written: the server refuses writes",
            "see the server's log; most often the disk is full",
        )
    sync = config.get("appendfsync", "unknown")
    if sync == "no":
        return Finding(
            "persistence",
            "warn",
            "append-only file, written out when the system likes: a power cut may lose half a minute",
            "CONFIG SET appendfsync everysec, and the same in the server's configuration",
        )
    lost = {"always": "nothing", "everysec": "at most the last second or two"}.get(
        sync, "as much as appendfsync allows"
    )
    return Finding("persistence", "ok", f"append-only file, appendfsync {sync}: a power cut loses {lost}")


def _judge_eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    limit = int(info.get("maxmemory", 0))
    if limit and policy != "noeviction":
        return Finding(
            "eviction",
            "fail",
            f"maxmemory-policy is {policy}: when memory is full the server deletes jobs",
            "CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration",
        )
    return Finding("eviction", "ok", f"maxmemory-policy {policy}" if limit else "no maxmemory: nothing is evicted")


def _judge_memory(info: Mapping[str, Any]) -> Finding:
    used = int(info.get("used_memory", 0))
    limit = int(info.get("maxmemory", 0))
    of_what = "maxmemory"
    if not limit:
        limit, of_what = int(info.get("total_system_memory", 0)), "the machine's memory"
    if not limit:
        return Finding("memory", "ok", f"{_mebibytes(used)} used; no limit known")
    share = used / limit
    detail = f"{_mebibytes(used)} used, {share:.0%} of {of_what} ({_mebibytes(limit)})"
    raise_limit = " (CONFIG SET maxmemory)" if of_what == "maxmemory" else ""
    advice = f"give the server more memory{raise_limit}, or keep results shorter (BARQUE_KEEP_RESULT)"
    if share >= 0.95:
        return Finding("memory", "fail", f"{detail}: enqueuing is about to be refused", advice)
    return Finding("memory", "warn", detail, advice) if share >= 0.75 else Finding("memory", "ok", detail)


def _judge_protection(client: redis.asyncio.Redis, settings: Settings) -> Finding:
    address = parse_url(settings.redis_url)
    # Behind sentinels the URL's host means nothing; the pool knows where they have sent us.
    host = (getattr(client.connection_pool, "master_address", None) or (address.host, 0))[0]
    if address.path is not None:
        return Finding("protection", "ok", "a Unix socket: the file's permissions decide who may connect")
    if _is_loopback(str(host)):
        return Finding("protection", "ok", "loopback: only this machine can connect")
    missing, advice = [], []
    if not connection_options(settings)["password"]:
        missing.append("no password")
        advice.append("set one (`requirepass` or ACL SETUSER) and BARQUE_REDIS_PASSWORD")
    if not address.tls:
        missing.append("no TLS")
        advice.append("turn on the server's `tls-port` and use rediss://, unless the network itself is private")
    elif connection_options(settings)["ssl_cert_reqs"] != "required":
        missing.append("TLS without checking the certificate")
        advice.append("set BARQUE_REDIS_TLS_VERIFY=true and BARQUE_REDIS_TLS_CA")
    if missing:
        return Finding("protection", "warn", f"over the network with {' and '.join(missing)}", "; ".join(advice))
    return Finding("protection", "ok", "over the network with a password and TLS")


def _judge_skew(skew: float, uncertainty: float) -> Finding:
    side = "ahead of" if skew > 0 else "behind"
    detail = f"{abs(skew):.3f} s {side} this machine's clock (± {uncertainty:.3f} s)"
    if abs(skew) - uncertainty > _SKEW_SECONDS:
        return Finding(
            "clock",
            "warn",
            f"{detail}: stock arq producers stamp due times with their own clock, so jobs run early or late",
            "keep both machines on NTP (`timedatectl set-ntp true`)",
        )
    return Finding("clock", "ok", detail)


def _judge_latency(milliseconds: float) -> Finding:
    detail = f"{milliseconds:.2f} ms a round trip (median of {_PINGS})"
    if milliseconds >= _SLOW_MS:
        return Finding(
            "latency",
            "warn",
            f"{detail}: each job waits for at least two",
            "run workers near the server (same zone), and see `SLOWLOG GET` for commands that block it",
        )
    return Finding("latency", "ok", detail)


def _unreadable(name: str, command: str, grant: str, error: Exception) -> Finding:
    why, _ = reason(error)
    return Finding(name, "warn", f"{command} is refused: {why}", f"ACL SETUSER <user> {grant}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"

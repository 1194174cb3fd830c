"""download_file against a real server and a real disk: resuming, changed files, limits, places."""

import asyncio
import fcntl
import hashlib
import os

import pytest
import structlog.testing
from aiohttp import web

from common import Context
from common.open_resources import keeper_of
from workers.tasks import download_file, downloads, partial_file
from workers.tasks.data_root import PathRefused
from workers.tasks.http_errors import (
    BodyTooLarge,
    ChecksumMismatch,
    DownloadBusy,
    ForbiddenAddress,
    HttpConnectionError,
    HttpStatusError,
    HttpUnavailable,
    InvalidRequest,
)

CONTENT = os.urandom(300_000)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


class FileServer:
    """Serves one file, as well or as badly as it is told to.

    Attributes:
        break_at: close the connection after so many bytes of a body, once they are on the client's
            disk; None sends all.
        ranges: whether it knows Range.
        requests: the headers of each request.
    """

    def __init__(self):
        self.content = CONTENT
        self.headers = {"ETag": '"one"'}
        self.break_at = None
        self.ranges = True
        self.requests = []
        self.on_disk = 0
        self.grown = asyncio.Condition()
        self.url = ""

    async def handle(self, request):
        self.requests.append(request.headers.copy())
        start, status, headers = 0, 200, dict(self.headers)
        asked = request.headers.get("Range")
        current = {self.headers.get("ETag"), self.headers.get("Last-Modified")}
        if self.ranges and asked and request.headers.get("If-Range") in current:
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(self.content):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(self.content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        body = self.content[start:]
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body if self.break_at is None else body[: self.break_at])
        if self.break_at is not None:
            encoded = "Content-Encoding" in self.headers
            await self.until_on_disk(1 if encoded else start + self.break_at)
            request.transport.close()
        return response

    async def note(self, size):
        async with self.grown:
            self.on_disk = size
            self.grown.notify_all()

    async def until_on_disk(self, size):
        async with self.grown:
            await self.grown.wait_for(lambda: self.on_disk >= size)


@pytest.fixture
async def server(monkeypatch):
    made = FileServer()
    loop = asyncio.get_running_loop()
    real_write = downloads.PartialFile.write

    def write_and_tell(part, data):
        real_write(part, data)
        asyncio.run_coroutine_threadsafe(made.note(part.size), loop)

    monkeypatch.setattr(downloads.PartialFile, "write", write_and_tell)
    monkeypatch.setattr(downloads, "_WRITE_AT_ONCE", 10_000)
    app = web.Application()
    app.router.add_get("/file", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/file"
    yield made
    await runner.cleanup()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_ALLOW_PRIVATE", "true")
    monkeypatch.setenv("BARQUE_DATA_ROOT", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
async def ctx(root):
    context = Context(job_id="j1")
    yield context
    await keeper_of(context.state).close()


async def broken_off(ctx, server, at=100_000):
    """Leave the first part of the file on the disk."""
    server.break_at, server.on_disk = at, 0
    with pytest.raises(HttpConnectionError) as caught:
        await download_file.function(ctx, server.url, "a/file.bin")
    assert download_file.options.retry.retries(caught.value)
    server.break_at = None
    server.requests.clear()


async def test_a_file(ctx, root, server):
    done = await download_file.function(ctx, server.url, "a/b/file.bin")
    assert (root / "a/b/file.bin").read_bytes() == CONTENT
    assert (done.path, done.size, done.resumed_from) == ("a/b/file.bin", len(CONTENT), 0)
    assert done.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert names(root / "a/b") == ["file.bin"]
    assert server.requests[0]["Accept-Encoding"] == "identity"


async def test_several_megabytes(ctx, root, server, monkeypatch):
    monkeypatch.setattr(downloads, "_WRITE_AT_ONCE", 1024 * 1024)
    server.content = os.urandom(5_000_001)
    await download_file.function(ctx, server.url, "file")
    assert (root / "file").read_bytes() == server.content


async def test_an_empty_file(ctx, root, server):
    server.content = b""
    assert (await download_file.function(ctx, server.url, "file")).size == 0
    assert (root / "file").read_bytes() == b""


@pytest.mark.parametrize("validator", [{"ETag": '"one"'}, {"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}])
async def test_the_next_attempt_goes_on_where_the_last_broke_off(ctx, root, server, validator):
    server.headers = validator
    await broken_off(ctx, server)
    there = (root / "a/file.bin.part").stat().st_size
    assert there == 100_000
    assert not (root / "a/file.bin").exists()
    done = await download_file.function(ctx, server.url, "a/file.bin", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert server.requests[0]["Range"] == f"bytes={there}-"
    assert server.requests[0]["If-Range"] == next(iter(validator.values()))
    assert (done.resumed_from, done.size) == (there, len(CONTENT))
    assert (root / "a/file.bin").read_bytes() == CONTENT
    assert names(root / "a") == ["file.bin"]


async def test_a_server_that_ignores_range(ctx, root, server):
    server.ranges = False
    await broken_off(ctx, server)
    done = await download_file.function(ctx, server.url, "a/file.bin")
    assert "Range" in server.requests[0]
    assert done.resumed_from == 0
    assert (root / "a/file.bin").read_bytes() == CONTENT


async def test_a_file_that_changed_is_fetched_from_the_start(ctx, root, server):
    await broken_off(ctx, server)
    server.content, server.headers = os.urandom(200_000), {"ETag": '"two"'}
    done = await download_file.function(ctx, server.url, "a/file.bin")
    assert server.requests[0]["If-Range"] == '"one"'
    assert done.resumed_from == 0
    assert (root / "a/file.bin").read_bytes() == server.content


async def test_a_file_that_changed_and_broke_off_again_goes_on_with_the_new_one(ctx, root, server):
    await broken_off(ctx, server)
    server.content, server.headers = os.urandom(200_000), {"ETag": '"two"'}
    await broken_off(ctx, server, at=50_000)
    done = await download_file.function(ctx, server.url, "a/file.bin")
    assert server.requests[0]["If-Range"] == '"two"'
    assert done.resumed_from > 0
    assert (root / "a/file.bin").read_bytes() == server.content


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
async def test_without_a_validator_nothing_is_resumed(ctx, root, server, headers):
    server.headers = headers
    await broken_off(ctx, server)
    await download_file.function(ctx, server.url, "a/file.bin")
    assert "Range" not in server.requests[0]
    assert (root / "a/file.bin").read_bytes() == CONTENT


async def test_the_rest_of_one_url_is_not_joined_to_another(ctx, root, server):
    await broken_off(ctx, server)
    await download_file.function(ctx, f"{server.url}?other", "a/file.bin")
    assert "Range" not in server.requests[0]
    assert (root / "a/file.bin").read_bytes() == CONTENT


async def test_a_partial_file_without_its_note_is_not_trusted(ctx, root, server):
    (root / "a").mkdir(parents=True)
    (root / "a/file.bin.part").write_bytes(b"who knows")
    await download_file.function(ctx, server.url, "a/file.bin")
    assert (root / "a/file.bin").read_bytes() == CONTENT


async def test_the_note_keeps_no_secret_of_the_url(ctx, root, server):
    server.break_at = 20_000
    with pytest.raises(HttpConnectionError) as caught:
        await download_file.function(ctx, f"{server.url}?token=s3cret", "file")
    assert "s3cret" not in (root / "file.part.origin").read_text()
    assert "s3cret" not in str(caught.value)


async def test_all_was_there_already(ctx, root, server):
    """The worker died after the last byte and before the file had its name."""
    await broken_off(ctx, server)
    (root / "a/file.bin.part").write_bytes(CONTENT)
    await download_file.function(ctx, server.url, "a/file.bin")
    assert (root / "a/file.bin").read_bytes() == CONTENT


async def test_another_part_than_the_one_asked_for_is_thrown_away(ctx, root, server):
    await broken_off(ctx, server)

    async def lie(request):
        return web.Response(status=206, headers={"Content-Range": "bytes 0-9/10"}, body=b"0123456789")

    app = web.Application()
    app.router.add_get("/file", lie)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        part = downloads.PartialFile(downloads.data_root(), "a/file.bin")
        other = f"http://127.0.0.1:{runner.addresses[0][1]}/file"
        part.restart(downloads.Origin(hashlib.sha256(other.encode()).hexdigest(), '"one"'))
        part.write(b"abc")
        part.close()
        with pytest.raises(HttpConnectionError, match="another part"):
            await download_file.function(ctx, other, "a/file.bin")
        assert (root / "a/file.bin.part").read_bytes() == b""
    finally:
        await runner.cleanup()


async def test_the_expected_file(ctx, root, server):
    digest = hashlib.sha256(CONTENT).hexdigest()
    await download_file.function(ctx, server.url, "file", sha256=digest.upper())
    again = await download_file.function(ctx, server.url, "file", sha256=digest)
    assert len(server.requests) == 1  # the second job found it there
    assert (again.size, again.sha256, again.resumed_from) == (len(CONTENT), digest, len(CONTENT))


async def test_another_file_than_expected_is_thrown_away(ctx, root, server):
    root.mkdir()
    (root / "file").write_text("old")
    with pytest.raises(ChecksumMismatch, match="expected SHA-256 0000") as caught:
        await download_file.function(ctx, server.url, "file", sha256="0" * 64)
    assert names(root) == ["file"]
    assert (root / "file").read_text() == "old"
    assert download_file.options.retry.retries(caught.value)


async def test_a_checksum_that_is_none(ctx, server):
    with pytest.raises(InvalidRequest, match="64 hexadecimal"):
        await download_file.function(ctx, server.url, "file", sha256="abc")
    assert server.requests == []


async def test_a_file_over_the_limit(ctx, root, server, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_DOWNLOAD_MAX_BYTES", str(len(CONTENT) - 1))
    with pytest.raises(BodyTooLarge):
        await download_file.function(ctx, server.url, "file")
    assert names(root) == []


async def test_a_file_over_the_limit_that_was_not_announced(ctx, root, monkeypatch):
    monkeypatch.setenv("BARQUE_HTTP_DOWNLOAD_MAX_BYTES", "1000")

    async def endless(request):
        response = web.StreamResponse(headers={"ETag": '"one"'})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(10):
            await response.write(b"x" * 200)
        return response

    app = web.Application()
    app.router.add_get("/", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(BodyTooLarge):
            await download_file.function(ctx, f"http://127.0.0.1:{runner.addresses[0][1]}/", "file")
    finally:
        await runner.cleanup()
    assert names(root) == []


async def test_a_file_the_server_compresses_anyway(ctx, root, server):
    import gzip

    server.content = gzip.compress(CONTENT)
    server.headers = {"ETag": '"one"', "Content-Encoding": "gzip"}
    await broken_off(ctx, server)
    assert not (root / "a/file.bin.part.origin").exists()
    await download_file.function(ctx, server.url, "a/file.bin")
    assert "Range" not in server.requests[0]
    assert (root / "a/file.bin").read_bytes() == CONTENT


async def test_two_attempts_at_once(ctx, root, server):
    root.mkdir()
    with (root / "file.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadBusy) as caught:
            await download_file.function(ctx, server.url, "file")
    assert download_file.options.retry.retries(caught.value)
    await download_file.function(ctx, server.url, "file")
    assert (root / "file").read_bytes() == CONTENT


def test_one_attempt_keeps_the_other_out(root):
    first = downloads.PartialFile(downloads.data_root(), "file")
    with pytest.raises(DownloadBusy):
        downloads.PartialFile(downloads.data_root(), "file")
    first.close()
    downloads.PartialFile(downloads.data_root(), "file").close()


def test_a_file_that_was_finished_between_open_and_lock_is_left_alone(root, monkeypatch):
    real_flock, finished = fcntl.flock, []

    def finish_then_lock(descriptor, operation):
        if not finished:
            finished.append((root / "file.part").rename(root / "file"))
            (root / "file").write_bytes(CONTENT)
            (root / "file.part").touch()  # and a third attempt has begun
        real_flock(descriptor, operation)

    monkeypatch.setattr(partial_file.fcntl, "flock", finish_then_lock)
    part = downloads.PartialFile(downloads.data_root(), "file")
    part.write(b"of the next attempt")
    part.close()
    assert finished
    assert (root / "file").read_bytes() == CONTENT
    assert (root / "file.part").read_bytes() == b"of the next attempt"


async def test_a_cancelled_download_keeps_what_it_has_and_lets_go(ctx, root, server):
    never = asyncio.Event()

    async def stall(request):
        response = web.StreamResponse(headers={"ETag": '"one"', "Content-Length": "3000000"})
        await response.prepare(request)
        await response.write(b"x" * 2_000_000)
        await never.wait()
        return response

    app = web.Application()
    app.router.add_get("/", stall)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        running = asyncio.create_task(download_file.function(ctx, url, "file"))
        await server.until_on_disk(1_000_000)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    finally:
        never.set()
        await runner.cleanup()
    part = downloads.PartialFile(downloads.data_root(), "file")  # not locked any more
    assert part.size >= 1_000_000
    assert part.origin is not None
    part.close()


@pytest.mark.parametrize(("status", "error"), [(404, HttpStatusError), (503, HttpUnavailable)])
async def test_a_bad_status_leaves_what_is_there(ctx, root, server, status, error):
    await broken_off(ctx, server)
    there = (root / "a/file.bin.part").stat().st_size
    source = hashlib.sha256(server.url.encode()).hexdigest()

    async def refuse(request):
        return web.Response(status=status, headers={"Retry-After": "3"})

    app = web.Application()
    app.router.add_get("/file", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        other = f"http://127.0.0.1:{runner.addresses[0][1]}/file"
        note = root / "a/file.bin.part.origin"
        note.write_text(note.read_text().replace(source, hashlib.sha256(other.encode()).hexdigest()))
        with pytest.raises(error):
            await download_file.function(ctx, other, "a/file.bin")
    finally:
        await runner.cleanup()
    assert (root / "a/file.bin.part").stat().st_size == there


@pytest.mark.parametrize("path", ["../file", "/tmp/file", "link/file", "."])
async def test_no_path_leads_out(ctx, root, server, tmp_path, path):
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(PathRefused) as caught:
        await download_file.function(ctx, server.url, path)
    assert server.requests == []
    assert not download_file.options.retry.retries(caught.value)


async def test_a_part_that_is_a_link_is_not_followed(ctx, root, server, tmp_path):
    root.mkdir()
    (tmp_path / "precious").write_text("precious")
    (root / "file.part").symlink_to(tmp_path / "precious")
    with pytest.raises(PathRefused):
        await download_file.function(ctx, server.url, "file")
    assert (tmp_path / "precious").read_text() == "precious"


async def test_a_private_server_is_refused(ctx, root, server, monkeypatch):
    monkeypatch.delenv("BARQUE_HTTP_ALLOW_PRIVATE")
    with pytest.raises(ForbiddenAddress):
        await download_file.function(ctx, server.url, "file")
    assert server.requests == []


async def test_progress_is_logged_without_the_url(ctx, server, monkeypatch):
    monkeypatch.setattr(downloads, "_SECONDS_BETWEEN_LINES", -1.0)
    server.content = os.urandom(3_000_000)
    with structlog.testing.capture_logs() as lines:
        await download_file.function(ctx, f"{server.url}?token=s3cret", "file")
    progress = [line for line in lines if line["event"] == "download_progress"]
    assert progress[0]["total"] == 3_000_000
    assert [line["bytes"] for line in progress] == sorted(line["bytes"] for line in progress)
    assert "s3cret" not in str(lines)

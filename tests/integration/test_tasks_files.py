"""File tasks on real files: what they do, and that no path leads out of the data root."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from common import Context
from workers.tasks import append_file, checksum_file, data_root, files, list_files, read_file, write_file
from workers.tasks.data_root import DataRoot, FileTooLarge, PathRefused
from workers.tasks.files import AppendMismatch


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("BARQUE_DATA_ROOT", str(folder))
    return folder


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text("secret")
    return folder


ctx = Context(job_id="j1")


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


ESCAPES = ["../outside/secret.txt", "a/../../outside/secret.txt", "..", "a/..", "", "with\0null"]


def everything_on(path):
    """Every task that takes a path, on this path."""
    return [
        read_file.function(ctx, path),
        write_file.function(ctx, path, "new"),
        append_file.function(ctx, path, "new"),
        checksum_file.function(ctx, path),
        list_files.function(ctx, path),
    ]


@pytest.mark.parametrize("path", ESCAPES)
async def test_no_path_leads_out(root, outside, path):
    (root / "a").mkdir()
    for work in everything_on(path):
        with pytest.raises(PathRefused):
            await work
    assert (outside / "secret.txt").read_text() == "secret"


async def test_an_absolute_path_is_refused_even_into_the_root(root, outside):
    for path in (str(outside / "secret.txt"), str(root / "a.txt")):
        for work in everything_on(path):
            with pytest.raises(PathRefused, match="absolute"):
                await work
    assert (outside / "secret.txt").read_text() == "secret"


async def test_a_link_in_place_of_a_folder_is_not_followed(root, outside):
    (root / "link").symlink_to(outside)
    for path in ("link/secret.txt", "link/new.txt", "link/deep/new.txt"):
        for work in everything_on(path):
            with pytest.raises(PathRefused, match="symbolic link"):
                await work
    assert [entry.name for entry in outside.iterdir()] == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == "secret"


async def test_a_link_in_place_of_a_file_is_not_followed(root, outside):
    (root / "link.txt").symlink_to(outside / "secret.txt")
    for work in (
        read_file.function(ctx, "link.txt"),
        append_file.function(ctx, "link.txt", "new"),
        checksum_file.function(ctx, "link.txt"),
    ):
        with pytest.raises(PathRefused, match="symbolic link"):
            await work
    await write_file.function(ctx, "link.txt", "new")
    assert not (root / "link.txt").is_symlink()  # the link itself was replaced
    assert (root / "link.txt").read_text() == "new"
    assert (outside / "secret.txt").read_text() == "secret"


async def test_a_link_to_nowhere_makes_no_file_there(root, outside):
    (root / "link.txt").symlink_to(outside / "new.txt")
    with pytest.raises(PathRefused):
        await append_file.function(ctx, "link.txt", "new")
    assert not (outside / "new.txt").exists()


@pytest.mark.parametrize("task", [read_file, checksum_file])
async def test_a_folder_swapped_for_a_link_on_the_way_leads_nowhere(root, outside, monkeypatch, task):
    """The attacker's best moment: after a folder was opened, before the file in it is."""
    (root / "a").mkdir()
    (root / "a" / "secret.txt").write_text("harmless")
    real_open = os.open
    swapped = []

    def swap_then_open(path, flags, *args, **kwargs):
        if path == "secret.txt" and not swapped:
            (root / "a").rename(root / "moved")
            (root / "a").symlink_to(outside)
            swapped.append(path)
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(data_root.os, "open", swap_then_open)
    result = await task.function(ctx, "a/secret.txt")
    assert swapped
    assert (result if task is read_file else result.hexdigest) == (
        b"harmless" if task is read_file else hashlib.sha256(b"harmless").hexdigest()
    )


async def test_a_write_goes_where_its_folder_went(root, outside, monkeypatch):
    (root / "a").mkdir()
    real_replace = os.replace

    def swap_then_replace(*args, **kwargs):
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to(outside)
        return real_replace(*args, **kwargs)

    monkeypatch.setattr(data_root.os, "replace", swap_then_replace)
    await write_file.function(ctx, "a/secret.txt", "mine")
    assert (outside / "secret.txt").read_text() == "secret"
    assert (root / "moved" / "secret.txt").read_text() == "mine"


async def test_the_root_itself_may_be_a_link(tmp_path, root, monkeypatch):
    (tmp_path / "mounted").symlink_to(root)
    monkeypatch.setenv("BARQUE_DATA_ROOT", str(tmp_path / "mounted"))
    await write_file.function(ctx, "a.txt", "x")
    assert (root / "a.txt").read_text() == "x"


async def test_a_pipe_is_refused_and_not_waited_on(root):
    os.mkfifo(root / "pipe")
    for work in (read_file.function(ctx, "pipe"), append_file.function(ctx, "pipe", "x")):
        with pytest.raises(PathRefused, match="not a regular file"):
            await asyncio.wait_for(work, 10)


async def test_what_is_written_is_read_back(root):
    info = await write_file.function(ctx, "deep/er/a.txt", "grüße")
    assert info.path == "deep/er/a.txt"
    assert info.size == len("grüße".encode())
    assert await read_file.function(ctx, "./deep//er/a.txt") == "grüße".encode()
    assert info == (await list_files.function(ctx, "deep/er")).files[0]


async def test_writing_replaces_and_leaves_nothing_beside(root):
    await write_file.function(ctx, "a", b"old")
    await write_file.function(ctx, "a", b"\x00new")
    assert (root / "a").read_bytes() == b"\x00new"
    assert names(root) == ["a"]


async def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(root, monkeypatch):
    await write_file.function(ctx, "a", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_root.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        await write_file.function(ctx, "a", "new")
    assert names(root) == ["a"]
    assert (root / "a").read_text() == "old"


async def test_a_folder_in_place_of_the_file(root):
    (root / "a").mkdir()
    for work in (
        read_file.function(ctx, "a"),
        write_file.function(ctx, "a", "x"),
        append_file.function(ctx, "a", "x"),
    ):
        with pytest.raises(PathRefused, match="'a' is not a regular file"):
            await work
    assert names(root) == ["a"]


async def test_a_file_in_place_of_a_folder(root):
    (root / "a").write_text("")
    for work in everything_on("a/b"):
        with pytest.raises(PathRefused, match="'a' is not a folder"):
            await work


async def test_a_missing_file_is_named_below_the_root(root):
    for work in (read_file.function(ctx, "no/such"), checksum_file.function(ctx, "no/such")):
        with pytest.raises(FileNotFoundError, match="'no'") as caught:
            await work
        assert str(root) not in str(caught.value)
        assert not read_file.options.retry.retries(caught.value)
    assert names(root) == []  # reading makes no folders


async def test_sizes_are_capped(root, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_CONTENT", 10)
    await write_file.function(ctx, "a", b"x" * 10)
    assert len(await read_file.function(ctx, "a")) == 10
    for task in (write_file, append_file):
        with pytest.raises(FileTooLarge, match="11 bytes; 10 are allowed"):
            await task.function(ctx, "b", b"x" * 11)
    await append_file.function(ctx, "a", b"x")
    with pytest.raises(FileTooLarge, match="more than the 10 bytes"):
        await read_file.function(ctx, "a")


async def test_appends_come_one_after_the_other(root):
    lines = [f"{n:04}" * 500 + "\n" for n in range(50)]
    await asyncio.gather(*(append_file.function(ctx, "log", line) for line in lines))
    assert sorted((root / "log").read_text().splitlines(keepends=True)) == lines


async def test_an_append_at_a_place_may_run_again(root):
    await append_file.function(ctx, "log", "one\n", at=0)
    for _ in range(3):
        assert (await append_file.function(ctx, "log", "two\n", at=4)).size == 8
    assert (root / "log").read_text() == "one\ntwo\n"


async def test_an_append_that_was_cut_off_is_completed(root):
    (root / "log").write_text("one\ntw")
    await append_file.function(ctx, "log", "two\n", at=4)
    assert (root / "log").read_text() == "one\ntwo\n"


@pytest.mark.parametrize(("there", "at"), [("one", 4), ("one\nTWO\n", 4), ("one\nX", 4), ("", -1)])
async def test_an_append_that_does_not_fit_changes_nothing(root, there, at):
    (root / "log").write_text(there)
    with pytest.raises(AppendMismatch):
        await append_file.function(ctx, "log", "two\n", at=at)
    assert (root / "log").read_text() == there


async def test_an_append_that_fails_leaves_the_file_as_long_as_it_was(root, monkeypatch):
    (root / "log").write_text("one\n")

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        await append_file.function(ctx, "log", "two\n")
    assert (root / "log").read_text() == "one\n"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5", "blake2b"])
async def test_checksums(root, algorithm):
    content = os.urandom(3_000_000)
    (root / "a").write_bytes(content)
    found = await checksum_file.function(ctx, "a", algorithm=algorithm)
    assert found.hexdigest == hashlib.new(algorithm, content).hexdigest()
    assert found.size == len(content)


async def test_listing(root, outside):
    for path in ("b.csv", "a.csv", "c.txt", ".hidden.csv", "sub/d.csv", "sub/deep/e.csv", ".git/f.csv"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("12345")
    (root / "link.csv").symlink_to(outside / "secret.txt")
    (root / "linked").symlink_to(outside)

    async def paths(*args, **options):
        return [info.path for info in (await list_files.function(ctx, *args, **options)).files]

    assert await paths() == ["a.csv", "b.csv", "c.txt"]
    assert await paths(pattern="*.csv") == ["a.csv", "b.csv"]
    assert await paths(pattern=".*") == [".hidden.csv"]
    assert await paths("sub") == ["sub/d.csv"]
    assert await paths(pattern="*.csv", recursive=True) == ["a.csv", "b.csv", "sub/d.csv", "sub/deep/e.csv"]
    assert await paths("./sub/", recursive=True) == ["sub/d.csv", "sub/deep/e.csv"]


async def test_a_listing_says_when_there_is_more(root):
    for name in "abc":
        (root / name).touch()
    cut = await list_files.function(ctx, limit=2)
    assert ([info.path for info in cut.files], cut.truncated) == (["a", "b"], True)
    assert not (await list_files.function(ctx, limit=3)).truncated
    for limit in (0, 10_001):
        with pytest.raises(ValueError, match="give 1 to 10000"):
            await list_files.function(ctx, limit=limit)


async def test_listing_what_is_not_there(root):
    with pytest.raises(FileNotFoundError, match="'nowhere'"):
        await list_files.function(ctx, "nowhere")


def test_no_descriptor_is_left_open(root, outside):
    (root / "a").mkdir()
    (root / "link").symlink_to(outside)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc here")
    before = names(descriptors)
    for path in ("a/b", "link/b", "no/b", "a"):
        for _ in range(20):
            try:
                with DataRoot(root).reading(path):
                    pass
            except (PathRefused, FileNotFoundError):
                pass
    assert len(names(descriptors)) == len(before)

"""`make build`: the wheel and the source distribution of what is committed, checked, and the same bytes each time.

Owns what goes in (the files of the last commit, so nothing that lies about), the times in it (those of the commit), and
what is looked at before anybody uploads it: RELEASING.md. The build itself is that of `python -m build`, the wheel made
of the source distribution, so that one proves the other.

Uploads nothing. tests/integration/test_package.py checks the same of what the working copy would give.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = frozenset({"cli", "common", "dashboard", "producer", "workers"})
MODULES = frozenset({"pytest_barque.py"})
"""What stands beside them."""

STAYS = frozenset({".ci/run", ".gitignore"})
"""What is committed and not in the source distribution: of use to this repository alone."""

ADDED = ("PKG-INFO", "setup.cfg", "barque.egg-info/")
"""What setuptools adds to it."""

_NO_LINK = ("http://", "https://", "mailto:", "#")


def committed() -> frozenset[str]:
    """Return the names of the files of the last commit, or none where this is no checkout, but what was unpacked."""
    if not (ROOT / ".git").exists():
        return frozenset()
    return frozenset(_git("ls-tree", "-rz", "--name-only", "HEAD").decode().split("\0")) - {""}


def make_same(archive: Path, moment: int) -> None:
    """Write a source distribution anew, in which nothing tells when, where and by whom it was made.

    setuptools takes SOURCE_DATE_EPOCH for wheels only; here files have the times and owners of whoever builds.

    Args:
        archive: the `.tar.gz`.
        moment: seconds since 1970, the time of all its files.
    """
    written = io.BytesIO()
    with (
        tarfile.open(archive) as source,
        gzip.GzipFile("", "wb", mtime=moment, fileobj=written) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for entry in sorted(source.getmembers(), key=lambda entry: entry.name):
            same = tarfile.TarInfo(entry.name)
            same.type, same.size, same.mtime = entry.type, entry.size, moment
            same.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            target.addfile(same, source.extractfile(entry) if entry.isfile() else None)
    archive.write_bytes(written.getvalue())


def faults_of_source(archive: Path, expected: frozenset[str]) -> Iterator[str]:
    """Yield what a source distribution lacks, or has besides.

    Args:
        archive: the `.tar.gz`.
        expected: the files it was made of.
    """
    with tarfile.open(archive) as source:
        files = {entry.name.partition("/")[2] for entry in source if entry.isfile()}
    for name in sorted(expected - STAYS - files):
        yield f"{archive.name}: {name} is not in it; MANIFEST.in says what is"
    for name in sorted(files - expected):
        if not name.startswith(ADDED):
            yield f"{archive.name}: {name} is in it, and is not committed"


def faults_of_wheel(archive: Path) -> Iterator[str]:
    """Yield what is wrong with a wheel: what does not belong, packages that are not typed, metadata, its page."""
    with zipfile.ZipFile(archive) as wheel:
        names = wheel.namelist()
        (described,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = wheel.read(described)
    own = f"{described.partition('/')[0]}/"
    for name in names:
        package = name.partition("/")[0]
        if (package not in PACKAGES | MODULES and not name.startswith(own)) or name.endswith((".pyc", ".pyo")):
            yield f"{archive.name}: {name} does not belong into it"
    for package in sorted(PACKAGES):
        if f"{package}/py.typed" not in names:
            yield f"{archive.name}: {package}/py.typed is missing, so type checkers see nothing of {package}"
    for fault in faults_of_metadata(metadata):
        yield f"{archive.name}: {fault}"


def faults_of_metadata(metadata: bytes) -> Iterator[str]:
    """Yield what an index would refuse of the metadata, and links of its page that lead nowhere there."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - not needed by whoever makes an archive the same
    from packaging.metadata import Metadata  # noqa: PLC0415

    try:
        read = Metadata.from_email(metadata, validate=True)
    except ExceptionGroup as errors:
        yield from (f"metadata: {error}" for error in errors.exceptions)
        return
    if read.description_content_type != "text/markdown" or not (read.description or "").strip():
        yield "metadata: the page of the package is empty, or not said to be Markdown"
    for block in MarkdownIt().parse(read.description or ""):
        for token in block.children or ():
            link = str(token.attrGet("href") or token.attrGet("src") or "")
            if link and not link.startswith(_NO_LINK):
                yield f"metadata: the page of the package links to {link}, which leads nowhere on an index"


def build(dist: Path, moment: int) -> tuple[Path, Path]:
    """Build what is committed into a folder, and return the source distribution and the wheel."""
    os.umask(0o022)  # whoever builds: archives hold the modes of files, which follow it
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("-c", "tar.umask=0022", "archive", "HEAD"))) as tree:
            tree.extractall(folder, filter="tar")
        ran = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), folder],
            check=False,
            capture_output=True,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(moment)},
            text=True,
        )
    if ran.returncode != 0:
        sys.exit(f"{ran.stdout}{ran.stderr}make build: `python -m build` ended with {ran.returncode}, as told above")
    (source,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    make_same(source, moment)
    return source, wheel


def main() -> None:
    """Build into dist/, check, and say what came out; end with 1 if something is wrong with it."""
    files = committed()
    if not files:
        sys.exit(
            "make build takes what is committed, and this is no Git checkout; `python -m build` builds what is here"
        )
    if changed := _git("status", "--porcelain").decode().splitlines():
        print(
            "Not committed, and so not in it:", *changed[:10], *["…"] * (len(changed) > 10), sep="\n  ", file=sys.stderr
        )
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    source, wheel = build(dist, int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct")))
    faults = [*faults_of_source(source, files), *faults_of_wheel(wheel)]
    for fault in faults:
        print(fault, file=sys.stderr)
    for made in (source, wheel):
        print(f"{made.relative_to(ROOT)}  {made.stat().st_size:,} bytes")
    sys.exit(1 if faults else 0)


def _git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()

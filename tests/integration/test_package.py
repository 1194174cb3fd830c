"""The wheel and the source distribution: all that the code needs is in them, nothing else, and it works elsewhere."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.build_package import MODULES, PACKAGES, faults_of_metadata, faults_of_source, faults_of_wheel, make_same

ROOT = Path(__file__).parents[2]
BUILD = "import sys, setuptools.build_meta as backend; getattr(backend, 'build_' + sys.argv[1])(sys.argv[2])"


def run(*words: object, code: int = 0, **options: object) -> str:
    ran = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=110, check=False, **options
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def files() -> frozenset[str]:
    """What is committed, or would be: other things lie about in a working copy."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no Git checkout, so nothing says which files are the project's")
    known = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(known, capture_output=True, text=True, check=True).stdout.split("\0")
    return frozenset(name for name in names if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def source(files, tmp_path_factory) -> Path:
    """Built from a copy: a build leaves folders beside what it builds."""
    folder = tmp_path_factory.mktemp("copy")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "common" / "__pycache__").mkdir()
    (folder / "common" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"")
    run("-c", BUILD, "sdist", "dist", cwd=folder)
    (built,) = (folder / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    """Built of what the source distribution has."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (project,) = folder.iterdir()
    run("-c", BUILD, "wheel", "dist", cwd=project, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"})
    (built,) = (project / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> dict[str, str]:
    """The environment of a process that has what is in the wheel, and not the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", folder, wheel)
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def test_every_file_of_the_packages_is_in_the_wheel(wheel, files):
    ours = {name for name in files if name.partition("/")[0] in PACKAGES | MODULES}
    assert len(ours) > 200
    with zipfile.ZipFile(wheel) as archive:
        assert ours - set(archive.namelist()) == set()


def test_nothing_else_is_in_the_wheel_and_an_index_would_take_it(wheel):
    assert list(faults_of_wheel(wheel)) == []


def test_what_tests_and_documents_need_is_in_the_source_distribution(source, files):
    assert list(faults_of_source(source, files)) == []


def test_faults_are_named(source, files):
    assert [fault.partition(": ")[2] for fault in faults_of_source(source, files | {"new.rs"})] == [
        "new.rs is not in it; MANIFEST.in says what is"
    ]
    assert [fault.partition(": ")[2] for fault in faults_of_source(source, files - {"PYPI.md"})] == [
        "PYPI.md is in it, and is not committed"
    ]
    described = "Metadata-Version: 2.4\nName: barque\nVersion: 1\nDescription-Content-Type: text/markdown\n\n"
    assert list(faults_of_metadata(f"{described}[all](https://example.org) `[no](link)`".encode())) == []
    assert [*faults_of_metadata(f"{described}[limits](docs/limits.md)".encode())] == [
        "metadata: the page of the package links to docs/limits.md, which leads nowhere on an index"
    ]
    assert "metadata: the page of the package is empty, or not said to be Markdown" in [
        *faults_of_metadata(described.encode())
    ]
    assert any("'name'" in fault or "name" in fault for fault in faults_of_metadata(b"Metadata-Version: 2.4\n"))


def test_a_source_distribution_tells_nothing_of_who_made_it_and_when(tmp_path):
    made = []
    for folder, mode, names in ((tmp_path / "one", 0o755, "ab"), (tmp_path / "other", 0o775, "ba")):
        (folder / "barque-1").mkdir(parents=True)
        for name in names:
            (folder / "barque-1" / name).write_text(name)
            os.utime(folder / "barque-1" / name, (mode, mode))
        (folder / "barque-1" / "a").chmod(mode)
        with tarfile.open(folder / "barque-1.tar.gz", "w:gz") as archive:
            for name in names:
                archive.add(folder / "barque-1" / name, f"barque-1/{name}")
        assert (folder / "barque-1.tar.gz").read_bytes() not in made
        make_same(folder / "barque-1.tar.gz", 1_700_000_000)
        made.append((folder / "barque-1.tar.gz").read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "one" / "barque-1.tar.gz") as archive:
        assert [(entry.name, entry.mode, entry.mtime, entry.uid, entry.uname) for entry in archive] == [
            ("barque-1/a", 0o755, 1_700_000_000, 0, ""),
            ("barque-1/b", 0o644, 1_700_000_000, 0, ""),
        ]
        assert archive.extractfile("barque-1/b").read() == b"b"


def test_the_page_on_an_index_begins_as_the_one_here():
    """Whose examples are run and type-checked; a copy that drifts is not."""
    page = (ROOT / "PYPI.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    examples = [f"```python\n{part.partition('```')[0]}" for part in page.split("```python\n")[1:]]
    assert len(examples) == 2
    assert [example for example in examples if example not in readme] == []


def test_each_extra_is_named_on_that_page_and_all_is_all(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if line.startswith("Provides-Extra: ")}
    page = (ROOT / "PYPI.md").read_text("utf-8")
    assert [extra for extra in extras if f"`{extra}`" not in page] == []
    (everything,) = (line for line in lines if line.startswith("Requires-Dist: barque[") and '"all"' in line)
    named = set(everything.partition("[")[2].partition("]")[0].split(","))
    assert extras - named == {"all", "otel"}


def test_it_works_away_from_the_checkout(installed, tmp_path):
    where = "import cli, common.redis.scripts as s; print(cli.__file__, len(s.SCRIPTS) > 3)"
    home = installed["PYTHONPATH"]
    assert run("-c", where, cwd=tmp_path, env=installed).split() == [f"{home}/cli/__init__.py", "True"]
    run("-m", "cli", "init", "mine", cwd=tmp_path, env=installed)
    assert (tmp_path / "mine" / "tasks.py").exists()
    assert run("-m", "cli", "--version", cwd=tmp_path, env=installed).startswith("barque 0.1.0, ")

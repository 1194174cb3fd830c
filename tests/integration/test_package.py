"""The wheel: it has all that the code needs beside itself, and works where the checkout is not."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "common", "dashboard", "producer", "workers")
NOT_SHIPPED = {"__pycache__"}


def run(*words: object, **options: object) -> str:
    ran = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=110, check=False, **options
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build leaves folders beside what it builds."""
    folder = tmp_path_factory.mktemp("package")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", ".", cwd=folder)
    (built,) = (folder / "dist").iterdir()
    return built


def test_every_file_of_the_packages_is_in_it(wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not NOT_SHIPPED & set(path.parts) and path.suffix != ".pyc"
    }
    assert len(files) > 200
    with zipfile.ZipFile(wheel) as archive:
        assert files - set(archive.namelist()) == set()


def test_it_works_away_from_the_checkout(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", installed, wheel)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
    where = "import cli, common.redis.scripts as s; print(cli.__file__, len(s.SCRIPTS) > 3)"
    assert run("-P", "-c", where, cwd=elsewhere, env=alone).split() == [f"{installed}/cli/__init__.py", "True"]
    run("-m", "cli", "init", "mine", cwd=elsewhere, env=alone)
    assert (elsewhere / "mine" / "tasks.py").exists()
    assert "barque" in run("-m", "cli", "--version", cwd=elsewhere, env=alone)

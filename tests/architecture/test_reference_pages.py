"""docs/reference/: each public name stands on one page, and what the site is to make has something to make it."""

import re
from collections import Counter
from pathlib import Path

from common import errors
from tests.architecture.test_public_surface import SURFACE

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md")}


def entries() -> Counter[str]:
    return Counter(name for text in PAGES.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def test_every_public_name_has_one_entry():
    public = {
        f"{package}.{name}"
        for package in ("common", "producer", "workers", "workers.testing")
        for name in SURFACE[package]
        if not hasattr(errors, name) or name in {"Discard", "Retry", "Snooze"}
    }
    assert entries() == Counter({*public, "common.errors"})


def test_each_marker_is_one_that_the_site_knows():
    known = set(re.findall(r'^    "(\w+)": ', (ROOT / "docs/hooks/generated.py").read_text("utf-8"), re.MULTILINE))
    marked = [
        name for text in PAGES.values() for name in re.findall(r"^<!-- generated: (\w+) -->$", text, re.MULTILINE)
    ]
    assert sorted(marked) == sorted(known)


def test_the_first_page_leads_to_all_others():
    linked = set(re.findall(r"\]\(([\w.]+\.md)\)", PAGES["index.md"]))
    assert linked == PAGES.keys() - {"index.md"}

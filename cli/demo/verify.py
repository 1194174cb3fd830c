"""Whether every row is there, once, and right.

Owns the comparison and the reading of the database, both with nothing of Barque's: the standard library's sqlite3,
and checksums the demo took from the disk itself.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from cli.demo.items import Item

__all__ = ["TABLE", "Row", "Verdict", "read_rows", "verify"]

TABLE = """
CREATE TABLE IF NOT EXISTS fetched (
    name TEXT PRIMARY KEY,
    status INTEGER NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    worker TEXT NOT NULL,
    elapsed_ms REAL NOT NULL
)
"""
"""A job may run twice, so the key is what keeps a second row of one name out."""


class Row(NamedTuple):
    """What is compared of a row."""

    name: str
    size: int
    sha256: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the rows: labels of items, in their order.

    Attributes:
        rows: how many rows there are.
        missing: items without a row.
        wrong: items whose row has another size or checksum than the file.
        duplicated: items with more rows than one.
        unasked: names of rows that belong to no item.
    """

    rows: int
    missing: list[str]
    wrong: list[str]
    duplicated: list[str]
    unasked: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.wrong or self.duplicated or self.unasked)


def read_rows(database: Path) -> list[Row]:
    """Return all rows, in the order they were stored; none when there is no database or no table."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        present = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'fetched'")
        if present.fetchone() is None:
            return []
        found = connection.execute("SELECT name, size, sha256 FROM fetched ORDER BY rowid")
        return [Row(*columns) for columns in found]


def verify(items: Sequence[Item], rows: Iterable[Row], failed: Collection[str] = ()) -> Verdict:
    """Hold rows against what was to be fetched.

    Args:
        items: each must have one row. One without a checksum is only asked to be there.
        rows: as read from the database.
        failed: names of items whose job failed; they are reported as failures, so not as missing too.
    """
    given = list(rows)
    names = {item.name for item in items}
    counts = Counter(row.name for row in given)
    by_name: dict[str, list[Row]] = {}
    for row in given:
        by_name.setdefault(row.name, []).append(row)
    return Verdict(
        rows=len(given),
        missing=[item.label for item in items if not counts[item.name] and item.name not in failed],
        wrong=[item.label for item in items if any(_differs(item, row) for row in by_name.get(item.name, ()))],
        duplicated=[item.label for item in items if counts[item.name] > 1],
        unasked=sorted(counts.keys() - names),
    )


def _differs(item: Item, row: Row) -> bool:
    return item.sha256 is not None and (row.size, row.sha256) != (item.size, item.sha256)

"""Tables that fit: of a narrow terminal the columns that matter least are left out, of a low one the last rows.

Owns which are, and how a cell that is too long ends. What is in them is for the views to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Column", "fitting"]

_GAP = 2


@dataclass(slots=True)
class Column:
    """One column.

    Attributes:
        least: characters without which it is of no use; a column of numbers is as wide as they are.
        matters: those with the smallest number are left out first; 0 stays whatever happens.
        number: its cells stand on the right, and are never cut.
    """

    title: str
    least: int = 0
    matters: int = 0
    number: bool = False
    cells: list[Text] = field(default_factory=list)

    @property
    def needs(self) -> int:
        """Characters it has to have."""
        if not self.number:
            return max(self.least, cell_len(self.title))
        return max([cell_len(self.title), self.least, *(cell_len(cell.plain) for cell in self.cells)])


def fitting(columns: Sequence[Column], width: int, *, fold: bool = False) -> Table:
    """Return a table of these columns, as many as fit.

    Args:
        width: columns of characters there are.
        fold: what is too long goes on in the next line; if not, it is cut.
    """
    shown = list(columns)
    while sum(column.needs + _GAP for column in shown) - _GAP > width:
        least = min((column for column in shown if column.matters), key=lambda column: column.matters, default=None)
        if least is None:
            break
        shown.remove(least)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    widths = _widths(shown, width)
    for column, room in zip(shown, widths, strict=True):
        table.add_column(
            column.title,
            justify="right" if column.number else "left",
            overflow="fold" if fold else "ellipsis",
            no_wrap=not fold,
            width=room,
        )
    for cells in _rows(shown):
        table.add_row(*cells)
    return table


def _widths(shown: Sequence[Column], width: int) -> list[int]:
    """Give each column of text what its cells want, as far as there is room, to those first that matter most."""
    widths = [column.needs for column in shown]
    left = width - sum(widths) - _GAP * (len(shown) - 1)
    for index, column in sorted(enumerate(shown), key=lambda each: (each[1].matters != 0, -each[1].matters)):
        if column.number or left <= 0:
            continue
        wanted = max((cell_len(cell.plain) for cell in column.cells), default=0)
        more = min(left, max(0, wanted - widths[index]))
        widths[index] += more
        left -= more
    return [max(1, each) for each in widths]


def _rows(shown: Sequence[Column]) -> Iterable[tuple[Text, ...]]:
    return zip(*(column.cells for column in shown), strict=True)

"""What can go wrong in a database task, and whether it is retried.

    DatabaseError
    ├── InvalidRows            table, columns or rows make no sense           not retried
    ├── TooManyRows            the query has more rows than the call allows   not retried
    ├── StatementRefused       the database would refuse it again             not retried
    └── DatabaseUnavailable    no connection, a lock, a deadlock, full disk   retried

No message holds a statement's values: they may be secrets.
"""

from __future__ import annotations

from common.errors import BarqueError, ConfigurationError

__all__ = [
    "NOT_RETRIED",
    "DatabaseError",
    "DatabaseUnavailable",
    "InvalidRows",
    "StatementRefused",
    "TooManyRows",
]


class DatabaseError(BarqueError):
    """The root of what the database tasks raise."""


class InvalidRows(DatabaseError):
    """The table, the columns or the rows make no sense; the message says which."""


class TooManyRows(DatabaseError):
    """The query has more rows than the call allows; none are returned."""


class StatementRefused(DatabaseError):
    """The database refuses the statement, and would again: syntax, a constraint, a missing table."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot do it now: no connection, a lock, a deadlock, a full disk."""


NOT_RETRIED: tuple[type[BaseException], ...] = (
    InvalidRows,
    TooManyRows,
    StatementRefused,
    ConfigurationError,
)
"""For `RetryPolicy(fail_on=…)`: the same call would fail the same way."""

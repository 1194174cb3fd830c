"""RQ's tasks: plain functions that its worker imports by name."""

from bodies import blocking_nap as nap
from bodies import blocking_noop as noop
from bodies import blocking_stamp as stamp

__all__ = ["nap", "noop", "stamp"]

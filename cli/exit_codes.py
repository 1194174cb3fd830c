"""The exit codes, and which error ends in which. docs/cli.md has the same table."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "NOT_YET", "OK", "UNAVAILABLE", "USAGE", "exit_code"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
"""Typer's own for wrong usage, and ours for a wrong setting: both are mended before the next try."""
UNAVAILABLE: Final = 3
NOT_YET: Final = 4


def exit_code(error: Exception) -> int | None:
    """Return the code an error ends the command with; None for one that is not Barque's, and so a bug."""
    from common import errors  # noqa: PLC0415 - imports msgspec and more; not for --help

    if isinstance(error, errors.RedisUnavailable):
        return UNAVAILABLE
    if isinstance(error, errors.ResultTimeout):
        return NOT_YET
    wrong_input = (
        errors.ConfigurationError,
        errors.NoServerBinary,
        errors.NotSerializable,
        errors.PayloadTooLarge,
        errors.ArgumentMismatch,
    )
    if isinstance(error, wrong_input):
        return USAGE
    return FAILED if isinstance(error, errors.BarqueError) else None

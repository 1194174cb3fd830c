from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

def atomic(using: _F) -> _F: ...
def on_commit(func: Callable[[], object]) -> None: ...

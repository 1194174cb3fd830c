"""What a producer's own code sees of each enqueue before it is sent, and may add to it.

Owns the calling of the hooks. A producer without any uses `Binder` itself, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from common.errors import ConfigurationError
from common.redis.store import Enqueue, FreshJobs
from common.settings import Settings
from common.signing import Keyring
from common.tasks import Call
from common.uniqueness import Uniqueness
from producer.binding import Binder, UniqueBound
from producer.options import NO_OPTIONS, EnqueueOptions, not_one_call

__all__ = ["EnqueueHook", "HookedBinder"]

EnqueueHook = Callable[[Call[Any], EnqueueOptions], EnqueueOptions]
"""Sees a call and what its enqueue asks for, and returns what it is to ask for. Raising refuses the enqueue."""


class HookedBinder(Binder):
    """A Binder that shows each call to hooks, in their order, before it makes a job of it."""

    def __init__(self, settings: Settings, signing: Keyring | None, hooks: Sequence[EnqueueHook]) -> None:
        super().__init__(settings, signing)
        self._hooks = hooks

    def bind(self, call: Call[Any], options: EnqueueOptions = NO_OPTIONS, job_id: str | None = None) -> Enqueue:
        """Return the call as a job, as the hooks would have it; otherwise as `Binder.bind`, whose errors it has."""
        return super().bind(call, self._heard(call, options), job_id)

    def bind_unique(
        self, call: Call[Any], options: EnqueueOptions, uniqueness: Uniqueness, job_id: str | None = None
    ) -> UniqueBound:
        """Return the call as a unique job, as the hooks would have it; otherwise as `Binder.bind_unique`."""
        return super().bind_unique(call, self._heard(call, options), uniqueness, job_id)

    def _heard(self, call: Call[Any], given: EnqueueOptions) -> EnqueueOptions:
        """Return what an enqueue asks for when all hooks have seen it."""
        if not isinstance(call, Call):
            raise not_one_call(call)
        options = given
        for hook in self._hooks:
            answer: object = hook(call, options)
            if not isinstance(answer, EnqueueOptions):
                name = getattr(hook, "__qualname__", type(hook).__qualname__)
                raise ConfigurationError(
                    f"before_enqueue: {name} returned a {type(answer).__name__}; "
                    "return the options it was given, or options.with_metadata(…)"
                )
            if (answer.unique, answer.unique_key) != (given.unique, given.unique_key):
                name = getattr(hook, "__qualname__", type(hook).__qualname__)
                raise ConfigurationError(
                    f"before_enqueue: {name} changed unique= or unique_key=, which the enqueue and the task alone say"
                )
            options = answer
        return options

    def bind_fresh(self, calls: Sequence[Call[Any]]) -> FreshJobs | None:  # noqa: ARG002 - as Binder's
        """Return None: each call takes the way on which the hooks stand."""
        return None

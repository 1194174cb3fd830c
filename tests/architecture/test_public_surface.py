"""What users may import, name by name: a change here is a change of the public face."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SURFACE = {
    "common": [
        "NEVER", "AttemptCall", "BarqueError", "BatchContext", "Call", "CircuitBreaker", "ConcurrencyLimit",
        "Context", "Debounce", "Discard", "Middleware", "Proceed", "RateLimit", "Resource", "Resources", "Retry",
        "RetryPolicy", "RetryRule", "Settings", "Snooze", "Task", "Throttle", "Unique", "cron", "every",
        "exponential", "fixed", "lifespan", "linear", "load_settings", "middleware", "schedule", "task",
    ],
    "producer": ["BlockingJob", "BlockingProducer", "Job", "Producer"],
    "workers": ["Worker", "WorkerSettings", "install"],
    "workers.testing": ["Ran", "Sandbox"],
    "dashboard": ["create_app"],
}  # fmt: skip

METHODS = {
    "producer.Producer": [
        "aclose", "as_completed", "connect", "dead", "enqueue", "enqueue_many", "gather", "inspector", "job", "limits",
        "map", "results", "schedules", "store", "watching",
    ],
    "producer.controls.Controls": ["abort_where", "pause", "pauses", "purge", "resume"],
    "producer.controls.BlockingControls": ["abort_where", "pause", "pauses", "purge", "resume"],
    "producer.editing.BlockingEditing": ["reenqueue"],
    "producer.editing.Editing": ["reenqueue"],
    "producer.listing.Listing": ["job_counts", "jobs"],
    "producer.listing.BlockingListing": ["job_counts", "jobs"],
    "producer.Job": ["abort", "info", "progress", "reschedule", "result", "status", "stream", "wait", "watch"],
    "producer.BlockingProducer": [
        "as_completed", "close", "dead", "enqueue", "enqueue_many", "gather", "iterate", "job", "limits", "map", "run",
        "schedules",
    ],
    "workers.testing.Sandbox": [
        "advance", "call", "drain", "enqueue", "now", "producer", "run", "waiting", "working",
    ],
    "producer.dead.DeadLetters": ["count", "delete", "get", "iterate", "list", "replay"],
    "producer.dead.BlockingDeadLetters": ["count", "delete", "get", "iterate", "list", "replay"],
    "producer.schedules.Schedules": ["add", "get", "list", "pause", "remove", "resume", "run_now"],
    "producer.schedules.BlockingSchedules": ["add", "get", "list", "pause", "remove", "resume", "run_now"],
    "producer.limits.BlockingLimits": ["list", "reset"],
    "producer.limits.Limits": ["list", "reset"],
    "producer.BlockingJob": [
        "abort", "info", "is_new", "job_id", "progress", "queue", "replaced", "reschedule", "result", "status",
        "stream", "watch",
    ],
}  # fmt: skip


@pytest.mark.parametrize("package", SURFACE)
def test_a_package_exports_these_names_and_each_is_there(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(SURFACE[package])
    for name in SURFACE[package]:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", SURFACE)
def test_an_exported_name_says_what_it_is(package):
    module = importlib.import_module(package)
    undocumented = [
        name for name in SURFACE[package] if callable(getattr(module, name)) and not getattr(module, name).__doc__
    ]
    assert undocumented == []


@pytest.mark.parametrize("path", METHODS)
def test_a_class_has_these_methods_and_each_says_what_it_does(path):
    module, _, name = path.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    public = [attribute for attribute in vars(kind) if not attribute.startswith("_")]
    # Attributes that stand in __slots__ are data, told in the class's docstring.
    public = [attribute for attribute in public if attribute not in getattr(kind, "__slots__", ())]
    assert sorted(public) == sorted(METHODS[path])
    assert [attribute for attribute in public if not getattr(kind, attribute).__doc__] == []


def test_an_unknown_name_of_workers_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("workers").no_such_name  # noqa: B018


def modules() -> list[str]:
    names = []
    for package in ("common", "producer", "workers", "dashboard"):
        found = pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
        names += [module.name for module in found]
    return names


@pytest.mark.parametrize("name", modules())
def test_every_name_in_all_is_there(name):
    module = importlib.import_module(name)
    assert [exported for exported in getattr(module, "__all__", []) if not hasattr(module, exported)] == []


def test_the_readme_shows_every_name_of_the_producer_and_of_common_that_it_imports():
    text = (ROOT / "README.md").read_text("utf-8")
    for package, names in re.findall(r"^from (common|producer|workers) import ([\w, ]+)$", text, re.MULTILINE):
        assert set(names.split(", ")) <= set(SURFACE[package])

"""common/trace_context.py and common/log_context.py: what travels, and what a foreign payload may hold."""

import pytest
import structlog
from opentelemetry import trace

from common.codec import Extras, decode_job, encode_job
from common.log_context import LONGEST_VALUE, LogContext
from common.trace_context import TraceContext

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def span_of(carried: object) -> trace.SpanContext:
    return trace.get_current_span(TraceContext(baggage=True).read(carried)).get_span_context()


def test_what_travels_is_read_as_it_was():
    found = span_of({"traceparent": PARENT, "tracestate": "vendor=1"})
    assert (format(found.trace_id, "032x"), format(found.span_id, "016x")) == tuple(PARENT.split("-")[1:3])
    assert found.is_remote
    assert found.trace_state.get("vendor") == "1"


def test_outside_of_a_span_nothing_travels():
    assert TraceContext().carried() is None


@pytest.mark.parametrize(
    "carried",
    [
        None, 7, "00-", [], {}, {"traceparent": 7}, {"traceparent": ""}, {"traceparent": "x" * 100_000},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}, {7: 8}, {"baggage": "=;=,,", "tracestate": b"\xff"},
    ],
)  # fmt: skip
def test_what_is_no_trace_context_is_none_and_costs_no_job(carried):
    extras = Extras(tries=3)
    extras.trace = carried
    payload = decode_job(encode_job("f", (), {}, enqueued_ms=0, extras=extras))
    assert payload.extras.tries == 3
    assert not span_of(payload.extras.trace).is_valid


class Loud:
    def __str__(self):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "travels"),
    [
        ("r-1", "r-1"),
        (7, 7),
        (True, True),
        (1.5, 1.5),
        (2**80, str(2**80)),
        (b"x", "b'x'"),
        ("x" * 5000, "x" * LONGEST_VALUE),
        ("\ud800", "\\ud800"),
        (Loud(), "<Loud whose str raised ValueError>"),
    ],
)
def test_values_travel_as_plain_ones(value, travels):
    context, extras = LogContext(["one", "not_bound"]), Extras()
    with structlog.contextvars.bound_contextvars(one=value, other="stays"):
        context.carry(extras)
    read = decode_job(encode_job("f", (), {}, enqueued_ms=0, extras=extras)).extras
    assert context.read(read) == {"one": travels}


@pytest.mark.parametrize("carried", [None, 7, "text", [], {}, {"other": 1}, {"one": None}])
def test_what_is_no_context_is_none(carried):
    extras = Extras()
    extras.log = carried
    assert LogContext(["one"]).read(extras) == {}


def test_a_worker_takes_what_its_own_setting_names():
    extras = Extras()
    extras.log = {"one": {"nested": 1}, "job_id": "forged"}
    assert LogContext(["one"]).read(extras) == {"one": "{'nested': 1}"}

"""OpenTelemetry spans, kept in memory.

spans       a `Spans` with a provider of its own; `spans.provider` goes to EnqueueSpans and AttemptSpans
"""

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.support.log_lines import until

__all__ = ["Spans", "spans"]


class Spans:
    """The spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def sends(self) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.PRODUCER]

    def processes(self) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.CONSUMER]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    async def attempts(self, count: int) -> list[ReadableSpan]:
        """Wait for the spans of so many attempts: they end once the outcome is recorded, after the result is there."""
        await until(lambda: len(self.processes()) >= count)
        return self.processes()


@pytest.fixture
def spans():
    found = Spans()
    yield found
    found.provider.shutdown()

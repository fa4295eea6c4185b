"""Spans and metrics for OpenTelemetry: one interceptor."""

import asyncio
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import attrs
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

from swarm.model import AgentIdentity, Event, event_type
from swarm.observability import _otel_names as names
from swarm.observability._masking import masked_text
from swarm.observability._otel_metrics import SwarmMetrics
from swarm.ports import (
    AgentCall,
    AttemptCall,
    HandleCall,
    HandoffCall,
    Interceptor,
    Proceed,
    PublishCall,
    StepCall,
    SubmitCall,
)

_SYSTEM: Final = "swarm"


class OpenTelemetry(Interceptor):
    """Makes a span of each operation of a swarm, and metrics of its state.

    See `swarm.observability.telemetry`, which makes it.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        interval: float = 1.0,
    ) -> None:
        """Use these providers, or the global ones; sample every `interval` seconds."""
        self._tracer: Tracer = trace.get_tracer(
            names.SCOPE, tracer_provider=tracer_provider
        )
        meter = metrics.get_meter(names.SCOPE, meter_provider=meter_provider)
        self._metrics = SwarmMetrics(meter, interval)
        self._durations: Histogram = meter.create_histogram(
            names.DURATION, "s", "How long operations took"
        )

    def opened(self, swarm: Any) -> None:
        """Sample the metrics of a swarm while it is open."""
        self._metrics.sample(swarm)

    # --- requests ---------------------------------------------------------------------

    async def ask(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Make a client span around an ask."""
        with self._span(
            names.ASK,
            call.method,
            SpanKind.CLIENT,
            _rpc(call),
            _context_unless_current(call.trace),
        ) as span:
            return await proceed(_traced(call, span))

    async def tell(self, call: AgentCall, proceed: Proceed[AgentCall]) -> None:
        """Make a producer span around a tell."""
        with self._span(
            names.TELL,
            call.method,
            SpanKind.PRODUCER,
            {**_agent(call), **_messaging(names.TELL, "send", call.agent.agent_id)},
            _context_unless_current(call.trace),
        ) as span:
            await proceed(_traced(call, span))

    async def turn(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Make a span around a turn, below that of its ask or tell."""
        is_told = call.kind == "tell"
        more = (
            _messaging(names.TURN, "process", call.agent.agent_id)
            if is_told
            else _rpc(call)
        )
        with self._span(
            names.TURN,
            call.method,
            SpanKind.CONSUMER if is_told else SpanKind.SERVER,
            {**_agent(call), **more},
            _context(call.trace),
        ) as span:
            return await proceed(_traced(call, span))

    # --- events -----------------------------------------------------------------------

    async def publish(self, call: PublishCall, proceed: Proceed[PublishCall]) -> Any:
        """Make a producer span around `events.publish`."""
        kind = _type_of(call.payload)
        with self._span(
            names.PUBLISH,
            kind,
            SpanKind.PRODUCER,
            {
                **_who(call.publisher),
                **_messaging(names.PUBLISH, "send", kind),
            },
            _context_unless_current(call.trace),
        ) as span:
            receipt = await proceed(_traced(call, span))
            span.set_attribute(names.MESSAGE_ID, str(receipt.seq))
            return receipt

    async def handle(self, call: HandleCall, proceed: Proceed[HandleCall]) -> Any:
        """Make a consumer span around a handler.

        It is below the span that published the event; of a batch, it has a link to
        each of those spans.
        """
        first = call.events[0]
        is_batch = len(call.events) > 1
        with self._span(
            names.HANDLE,
            first.type,
            SpanKind.CONSUMER,
            _handled(call, first),
            Context() if is_batch else _context(call.trace),
            _links(event.trace for event in call.events) if is_batch else (),
        ) as span:
            return await proceed(_traced(call, span))

    # --- tasks ------------------------------------------------------------------------

    async def submit(self, call: SubmitCall, proceed: Proceed[SubmitCall]) -> Any:
        """Make a producer span around `tasks.submit`; the metadata carries it."""
        with self._span(
            names.SUBMIT,
            call.kind,
            SpanKind.PRODUCER,
            {**_who(call.submitter), **_messaging(names.SUBMIT, "send", call.kind)},
        ) as span:
            text = _text(span)
            if text is not None:
                metadata = {**(call.metadata or {}), names.TRACEPARENT: text}
                call = attrs.evolve(call, metadata=metadata)
            task = await proceed(call)
            span.set_attribute(names.TASK_ID, task.id)
            return task

    async def attempt(self, call: AttemptCall, proceed: Proceed[AttemptCall]) -> Any:
        """Make a consumer span around an attempt, with a link to the submitter's."""
        sent = call.metadata.get(names.TRACEPARENT)
        with self._span(
            names.ATTEMPT,
            call.kind,
            SpanKind.CONSUMER,
            {
                **_who(call.agent),
                **_messaging(names.ATTEMPT, "process", call.kind),
                names.TASK_ID: call.task_id,
                names.TASK_KIND: call.kind,
                names.TASK_ATTEMPT: call.attempt,
            },
            links=_links([sent if isinstance(sent, str) else None]),
        ) as span:
            return await proceed(_traced(call, span))

    async def step(self, call: StepCall, proceed: Proceed[StepCall]) -> Any:
        """Make a span around the function of a durable step."""
        with self._span(
            names.STEP,
            call.name,
            SpanKind.INTERNAL,
            {
                **_who(call.agent),
                names.TASK_ID: call.task_id,
                names.STEP_NAME: call.name,
            },
        ):
            return await proceed(call)

    async def handoff(self, call: HandoffCall, proceed: Proceed[HandoffCall]) -> Any:
        """Make a producer span around `handoffs.offer`."""
        with self._span(
            names.HANDOFF,
            call.to,
            SpanKind.PRODUCER,
            {
                **_who(call.sender),
                **_messaging(names.HANDOFF, "send", call.to),
                names.TASK_ID: call.task_id,
                names.HANDOFF_TO: call.to,
            },
        ):
            return await proceed(call)

    # --- spans ------------------------------------------------------------------------

    @contextmanager
    def _span(
        self,
        operation: str,
        target: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        """Make the current span of a block; None as the context: the current one."""
        now = asyncio.get_running_loop().time
        began = now()
        outcome = {names.OPERATION: operation, names.OUTCOME: "ok"}
        span = self._tracer.start_span(
            f"{operation} {target}",
            context,
            kind,
            attributes,
            links,
            record_exception=False,
            set_status_on_exception=False,
        )
        try:
            with trace.use_span(
                span, record_exception=False, set_status_on_exception=False
            ):
                yield span
        except BaseException as error:
            outcome.update(_outcome(error))
            if outcome[names.OUTCOME] == "error":
                span.add_event("exception", _exception(error))
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.set_attributes(
                {key: outcome[key] for key in outcome if key != names.OPERATION}
            )
            span.end()
            self._durations.record(now() - began, outcome)


def _outcome(error: BaseException) -> dict[str, str]:
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return {names.OUTCOME: "cancelled"}
    return {names.OUTCOME: "error", names.ERROR_TYPE: type(error).__qualname__}


def _exception(error: BaseException) -> dict[str, str]:
    """Return what `Span.record_exception` records, with secrets masked."""
    text = "".join(traceback.format_exception(error))
    return {
        names.EXCEPTION_TYPE: type(error).__qualname__,
        names.EXCEPTION_MESSAGE: masked_text(str(error)),
        names.EXCEPTION_STACKTRACE: masked_text(text),
    }


# --- attributes -----------------------------------------------------------------------


def _who(identity: AgentIdentity) -> dict[str, Any]:
    return {names.AGENT: identity.agent_id, names.AGENT_TYPE: identity.type}


def _agent(call: AgentCall) -> dict[str, Any]:
    return {
        **_who(call.agent),
        names.METHOD: call.method,
        names.CALL_KIND: call.kind,
    }


def _rpc(call: AgentCall) -> dict[str, Any]:
    service, _, method = call.method.rpartition(".")
    return {
        **_agent(call),
        names.RPC_SYSTEM: _SYSTEM,
        names.RPC_SERVICE: service,
        names.RPC_METHOD: method,
    }


def _messaging(operation: str, kind: str, destination: str) -> dict[str, Any]:
    return {
        names.MESSAGING_SYSTEM: _SYSTEM,
        names.OPERATION_NAME: operation,
        names.OPERATION_TYPE: kind,
        names.DESTINATION: destination,
    }


def _handled(call: HandleCall, first: Event[Any]) -> dict[str, Any]:
    more: dict[str, Any] = (
        {names.BATCH_COUNT: len(call.events)}
        if len(call.events) > 1
        else {names.MESSAGE_ID: first.id, names.CONVERSATION_ID: first.correlation_id}
    )
    return {
        **_who(call.subscriber),
        **_messaging(names.HANDLE, "process", first.type),
        names.CONSUMER_GROUP: call.subscription,
        names.HANDLER_ATTEMPT: call.attempt,
        **more,
    }


def _type_of(payload: object) -> str:
    try:
        return event_type(type(payload))
    except TypeError:  # no event; publishing says so
        return type(payload).__name__


# --- contexts -------------------------------------------------------------------------


def _traced(call: Any, span: Span) -> Any:
    """Return a call that carries the context of a span."""
    text = _text(span)
    return call if text is None else attrs.evolve(call, trace=text)


def _text(span: Span) -> str | None:
    """Return the `traceparent` of a span; None: it has none, nothing is recorded."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    flags = int(context.trace_flags)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def _span_context(text: str | None) -> SpanContext | None:
    if text is None:
        return None
    try:
        _, trace_id, span_id, flags = text.split("-")
        return SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(int(flags, 16)),
        )
    except ValueError:
        return None


def _context(text: str | None) -> Context | None:
    """Return the context of a span that was sent; None: the current context."""
    found = _span_context(text)
    if found is None or not found.is_valid:
        return None
    return trace.set_span_in_context(NonRecordingSpan(found), Context())


def _context_unless_current(text: str | None) -> Context | None:
    """Return the current context; if it has no span, that of a span that was sent."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    return _context(text)


def _links(texts: Any) -> list[Link]:
    found = (_span_context(text) for text in texts)
    return [Link(each) for each in found if each is not None and each.is_valid]

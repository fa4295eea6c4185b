"""Telemetry for OpenTelemetry, if its API is installed."""

import importlib.util
import logging
from typing import TYPE_CHECKING, Final

from swarm.model import check_seconds, shown
from swarm.ports import Interceptor

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

log: Final = logging.getLogger("swarm")


def telemetry(
    tracer_provider: "TracerProvider | None" = None,
    meter_provider: "MeterProvider | None" = None,
    *,
    interval: float = 1.0,
) -> Interceptor:
    """Return an interceptor that gives OpenTelemetry spans and metrics of a swarm.

    `Swarm(interceptors=[telemetry()])`, with the extra `otel`. Without the package
    `opentelemetry-api` the interceptor does nothing, and one warning says how to get
    it. Without an SDK that records, spans and metrics cost a little and go nowhere.

    **Spans**: `ask`, `tell`, `turn`, `publish`, `handle`, `submit`, `attempt`, `step`
    and `handoff`, each named after its operation and target, as "ask Echo.echo". The
    span of a turn is below that of its ask or tell, and the span of a handler below
    the one that published the event, in other processes as well: requests and events
    carry a W3C `traceparent`. A batch of events has a link to each of those spans.
    The metadata of a task carries "traceparent", and each attempt has a link to the
    span that submitted the task. A publish inside a turn is carried as the turn's.
    Reading a stream has no span; its turn has one.

    **Metrics**: the durations of these operations by outcome, and every `interval`
    seconds: agents by status, requests in mailboxes, tasks by kind and status, time in
    each status, leases and waiting requests of locks, commits, dead letters, and how
    late timers of the loop run.

    Names follow the semantic conventions for messaging and RPC where these fit; others
    begin with "swarm.". Arguments, results and payloads are not recorded; the text of
    an exception is, with secrets masked as `swarm.observability.masked` does.

    Args:
        tracer_provider: Where spans go; None: the global provider.
        meter_provider: Where metrics go; None: the global provider.
        interval: Seconds between two samples of the metrics.

    Raises:
        TypeError: A provider makes no tracers or meters, or the interval is no number.
        ValueError: The interval is not above 0.
    """
    check_seconds("interval", interval)
    _check_provider("tracer_provider", tracer_provider, "get_tracer")
    _check_provider("meter_provider", meter_provider, "get_meter")
    if importlib.util.find_spec("opentelemetry") is None:
        log.warning(
            "telemetry() does nothing: `pip install swarm-actors[otel]` for spans"
        )
        return Interceptor()
    from swarm.observability._otel import OpenTelemetry

    return OpenTelemetry(tracer_provider, meter_provider, interval=interval)


def _check_provider(what: str, provider: object, method: str) -> None:
    if provider is not None and not hasattr(provider, method):
        raise TypeError(f"{what} has a method {method}(), {shown(provider)} has none")

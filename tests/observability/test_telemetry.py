"""Spans and metrics for OpenTelemetry, read by the exporters of its SDK."""

import asyncio
import subprocess
import sys
from contextlib import suppress

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from swarm import (
    Agent,
    Batch,
    Event,
    Interceptor,
    Swarm,
    correlated,
    event,
    interleave,
    on,
    serves,
)
from swarm.observability import _otel_names as names
from swarm.observability import telemetry
from swarm.testing import MemoryServer
from tests.support.virtual_loop import virtual

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@event("hive.opened")
class Opened:
    number: int = 0


class Keeper(Agent):
    async def look(self, hive: str) -> str:
        await self.swarm.events.publish(Opened())
        return hive

    async def fail(self) -> None:
        raise ValueError("stung")

    async def relay(self, other) -> str:
        return await other.ask(Keeper.look, "two")

    @interleave
    async def wait(self) -> None:
        await asyncio.sleep(3600)

    async def items(self):
        yield 1


class Listener(Agent):
    @on(Opened)
    async def opened(self, event: Event[Opened]) -> None:
        await asyncio.sleep(0)


class Server(Agent):
    @serves("hive.check")
    async def check(self) -> str:
        return "good"


class Spans:
    """A swarm's telemetry, and what it exported."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader])
        self.interceptor = telemetry(tracers, meters)
        self.tracer = tracers.get_tracer("test")

    def all(self):
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metric(self, name):
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        return list(metric.data.data_points)
        return []


def is_below(child, parent):
    return (
        child.parent is not None
        and child.parent.span_id == parent.context.span_id
        and child.context.trace_id == parent.context.trace_id
    )


# --- spans ----------------------------------------------------------------------------


async def test_a_turn_is_below_its_ask_and_the_asks_of_the_turn_below_the_turn():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        one = await swarm.spawn(Keeper, name="one")
        two = await swarm.spawn(Keeper, name="two")
        await one.ask(Keeper.relay, two)
    found = spans.all()
    outer, relay = found["ask Keeper.relay"], found["turn Keeper.relay"]
    inner, look = found["ask Keeper.look"], found["turn Keeper.look"]
    assert outer.parent is None
    assert is_below(relay, outer)
    assert is_below(inner, relay)
    assert is_below(look, inner)
    assert is_below(found["publish hive.opened"], look)
    assert (outer.kind, relay.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert outer.attributes[names.AGENT] == "one"
    assert outer.attributes[names.RPC_SERVICE] == "Keeper"
    assert outer.attributes[names.RPC_METHOD] == "relay"
    assert outer.attributes[names.OUTCOME] == "ok"


async def test_a_turn_that_a_task_finishes_keeps_its_span_current():
    spans = Spans()
    got = []

    class Sleeper(Agent):
        async def nap(self) -> None:
            with spans.tracer.start_as_current_span("before"):
                await asyncio.sleep(0)
            with spans.tracer.start_as_current_span("after"):
                got.append("after")

    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        agent = await swarm.spawn(Sleeper)
        await asyncio.gather(agent.ask(Sleeper.nap), agent.ask(Sleeper.nap))
    found = spans.all()
    turns = {
        span.context.span_id
        for span in spans.exporter.get_finished_spans()
        if span.name == "turn Sleeper.nap"
    }
    assert {found["before"].parent.span_id, found["after"].parent.span_id} <= turns


async def test_the_current_span_of_the_program_is_the_parent_of_its_asks():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        one = await swarm.spawn(Keeper)
        with spans.tracer.start_as_current_span("request"):
            await one.ask(Keeper.look, "a")
    assert is_below(spans.all()["ask Keeper.look"], spans.all()["request"])


async def test_a_traceparent_from_outside_is_the_parent():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        one = await swarm.spawn(Keeper)
        with correlated(trace=TRACE):
            await one.ask(Keeper.look, "a")
    ask = spans.all()["ask Keeper.look"]
    assert f"{ask.context.trace_id:032x}" == TRACE.split("-")[1]
    assert f"{ask.parent.span_id:016x}" == TRACE.split("-")[2]


async def test_tells_and_streams_have_spans():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        one = await swarm.spawn(Keeper, name="one")
        await one.tell(Keeper.look, "a")
        assert [item async for item in one.stream(Keeper.items)] == [1]
    found = spans.all()
    tell, turn = found["tell Keeper.look"], found["turn Keeper.look"]
    assert is_below(turn, tell)
    assert (tell.kind, turn.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert tell.attributes[names.DESTINATION] == "one"
    assert turn.attributes[names.OPERATION_TYPE] == "process"
    assert found["turn Keeper.items"].attributes[names.CALL_KIND] == "stream"


async def test_handlers_are_below_the_span_that_published():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        await swarm.spawn(Listener, name="listener")
        await swarm.events.on(Opened, lambda event: None, name="plain")
        await swarm.events.publish(Opened(7))
    published = spans.all()["publish hive.opened"]
    handled = [
        span
        for span in spans.exporter.get_finished_spans()
        if span.name == "handle hive.opened"
    ]
    assert len(handled) == 2
    assert all(is_below(span, published) for span in handled)
    groups = {span.attributes[names.CONSUMER_GROUP] for span in handled}
    assert groups == {"plain", "listener.opened"}
    assert published.attributes[names.DESTINATION] == "hive.opened"


async def test_a_batch_has_a_link_to_each_span_that_published():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        await swarm.events.on(Opened, lambda events: None, batch=Batch(2, 60.0))
        await swarm.events.publish(Opened(1))
        await swarm.events.publish(Opened(2))
    finished = spans.exporter.get_finished_spans()
    sent = {s.context.span_id for s in finished if s.name == "publish hive.opened"}
    (batch,) = [span for span in finished if span.name == "handle hive.opened"]
    assert {link.context.span_id for link in batch.links} == sent
    assert len(sent) == 2
    assert batch.attributes[names.BATCH_COUNT] == 2


async def test_an_attempt_has_a_link_to_the_span_that_submitted_its_task():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        await swarm.spawn(Server, name="server")
        task = await swarm.tasks.submit("hive.check", metadata={"tenant": "a"})
        assert await task.result() == "good"
        await swarm.tasks.submit("hive.weigh")
        async with swarm.tasks.claim("hive.weigh") as claim:
            await claim.step("scale", lambda: 40)
    found = spans.all()
    submitted, attempt = found["submit hive.check"], found["attempt hive.check"]
    assert [link.context.span_id for link in attempt.links] == [
        submitted.context.span_id
    ]
    assert is_below(found["turn Server.check"], attempt)
    assert attempt.attributes[names.TASK_ID] == task.id
    assert attempt.attributes[names.TASK_ATTEMPT] == 1
    assert is_below(found["step scale"], found["attempt hive.weigh"])
    assert found["step scale"].attributes[names.STEP_NAME] == "scale"


async def test_a_handoff_has_a_span():
    spans = Spans()

    class Taker(Agent):
        async def handoff(self, offer):
            await offer.accept()

    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        await swarm.spawn(Taker, name="taker")
        await swarm.tasks.submit("hive.check")
        async with swarm.tasks.claim("hive.check") as claim:
            offer = await swarm.handoffs.offer(claim, to="taker")
            await offer.outcome()
    handoff = spans.all()["handoff taker"]
    assert handoff.attributes[names.HANDOFF_TO] == "taker"
    assert is_below(handoff, spans.all()["attempt hive.check"])


async def test_an_error_is_recorded_and_a_cancellation_is_not_an_error():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        one = await swarm.spawn(Keeper)
        with pytest.raises(ValueError, match="stung"):
            await one.ask(Keeper.fail)
        task = asyncio.ensure_future(one.ask(Keeper.wait))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    found = spans.all()
    failed, cancelled = found["ask Keeper.fail"], found["ask Keeper.wait"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes[names.ERROR_TYPE] == "ValueError"
    assert failed.events[0].attributes["exception.message"] == "stung"
    assert cancelled.status.status_code is StatusCode.UNSET
    assert cancelled.attributes[names.OUTCOME] == "cancelled"


async def test_a_secret_in_the_text_of_an_exception_is_masked():
    async def log_in() -> None:
        raise ValueError("password=hunter2 was refused")

    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        await swarm.tasks.submit("login")
        with suppress(ValueError):
            async with swarm.tasks.claim("login") as claim:
                await claim.step("log in", log_in)
    (event,) = spans.all()["step log in"].events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == "password=*** was refused"
    assert "log_in" in event.attributes["exception.stacktrace"]
    assert not any("hunter2" in str(value) for value in event.attributes.values())


async def test_without_an_sdk_nothing_is_added_to_calls():
    seen = []

    class Look(Interceptor):
        async def turn(self, call, proceed):
            seen.append(call.trace)
            return await proceed(call)

    async with Swarm(interceptors=[telemetry(), Look()]) as swarm:
        one = await swarm.spawn(Keeper)
        await one.ask(Keeper.look, "a")
        await swarm.tasks.submit("hive.check")
        async with swarm.tasks.claim("hive.check") as claim:
            assert claim.metadata == {}
    assert seen == [None]


@virtual
async def test_spans_follow_asks_and_events_to_another_process():
    server, here, there = MemoryServer(), Spans(), Spans()
    async with (
        Swarm("hive", server, interceptors=[there.interceptor]) as one,
        Swarm("hive", server, interceptors=[here.interceptor]) as two,
    ):
        await one.spawn(Keeper, name="one")
        await one.events.on(Opened, lambda event: None)
        while (keeper := two.agents.get("one")) is None:
            await asyncio.sleep(0.1)
        await keeper.ask(Keeper.look, "a")
        await two.events.publish(Opened(1))
        await asyncio.sleep(1)
    ours, theirs = here.all(), there.all()
    assert is_below(theirs["turn Keeper.look"], ours["ask Keeper.look"])
    handled = [
        span
        for span in there.exporter.get_finished_spans()
        if span.name == "handle hive.opened"
    ]
    assert any(is_below(span, ours["publish hive.opened"]) for span in handled)


# --- metrics --------------------------------------------------------------------------


@virtual
async def test_metrics_are_sampled_while_the_swarm_is_open():
    spans = Spans()
    async with Swarm("hive", interceptors=[spans.interceptor]) as swarm:
        await asyncio.sleep(0)
        first = swarm._coordinator.tail.revision
        one = await swarm.spawn(Keeper, name="one")
        await swarm.tasks.submit("hive.check")
        one.tell_nowait(Keeper.wait)
        async with swarm.lock("queen").acquire():
            waiting = asyncio.ensure_future(swarm.lock("queen").acquire())
            await asyncio.sleep(1.5)
            (mailbox,) = spans.metric(names.MAILBOX)
            assert (mailbox.value, mailbox.attributes[names.AGENT_TYPE]) == (
                1,
                "keeper",
            )
            assert mailbox.attributes[names.SWARM] == "hive"
            (tasks,) = [p for p in spans.metric(names.TASKS) if p.value]
            assert tasks.attributes[names.TASK_STATUS] == "pending"
            assert [p.value for p in spans.metric(names.LOCKS_WAITING)] == [1]
            assert [p.value for p in spans.metric(names.LOCK_WAIT)] == [1.0]
            assert [p.value for p in spans.metric(names.LOOP_LAG)] == [0.0]
            (commits,) = spans.metric(names.COMMITS)
            assert 2 <= commits.value <= swarm._coordinator.tail.revision - first
        await (await waiting).release()
        await one.kill()
    assert spans.metric(names.TASKS) == []


@virtual
async def test_the_longest_wait_for_a_lock_is_found_among_many_locks():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        held = [await swarm.lock(f"l{n:03}").acquire(ttl=60) for n in range(250)]
        waiting = asyncio.ensure_future(swarm.lock("l249").acquire())
        await asyncio.sleep(3.5)
        assert [p.value for p in spans.metric(names.LOCK_WAIT)] == [3.0]
        for lease in held:
            await lease.release()
        await (await waiting).release()


@virtual
async def test_commits_count_from_zero_after_a_restore():
    async with Swarm() as swarm:
        await swarm.state.set_many({f"shared.n{n}": n for n in range(50)})
        saved = await swarm.snapshots.create("saved")
    spans = Spans()
    async with Swarm(restore=saved, interceptors=[spans.interceptor]) as swarm:
        await asyncio.sleep(1.5)
        for number in range(3):
            await swarm.state.set("shared.more", number)
        await asyncio.sleep(1)
        assert [p.value for p in spans.metric(names.COMMITS)] == [3]


async def test_durations_are_counted_by_operation_and_outcome():
    spans = Spans()
    async with Swarm(interceptors=[spans.interceptor]) as swarm:
        one = await swarm.spawn(Keeper)
        for _ in range(3):
            await one.ask(Keeper.look, "a")
        with pytest.raises(ValueError, match="stung"):
            await one.ask(Keeper.fail)
    counts = {
        (p.attributes[names.OPERATION], p.attributes[names.OUTCOME]): p.count
        for p in spans.metric(names.DURATION)
    }
    assert counts["ask", "ok"] == counts["turn", "ok"] == 3
    assert counts["ask", "error"] == 1


# --- the package ----------------------------------------------------------------------


@virtual
async def test_metrics_are_sampled_once_an_interval():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])

    def agents_seen() -> int:
        metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        found = [each for each in metrics if each.name == names.AGENTS]
        return sum(p.value for each in found for p in each.data.data_points)

    interceptor = telemetry(meter_provider=provider, interval=60)
    async with Swarm(interceptors=[interceptor]) as swarm:
        await asyncio.sleep(1)
        await swarm.spawn(Keeper)
        await asyncio.sleep(58)
        assert agents_seen() == 0
        await asyncio.sleep(2)
        assert agents_seen() == 1


def test_the_interval_is_checked():
    with pytest.raises(ValueError, match=r"interval is from 0.000001 to"):
        telemetry(interval=0)
    with pytest.raises(TypeError, match="interval is a number of seconds, not 'x'"):
        telemetry(interval="x")


def test_a_provider_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"tracer_provider has a method get_tracer\(\)"):
        telemetry(object())
    with pytest.raises(TypeError, match=r"meter_provider has a method get_meter\(\)"):
        telemetry(meter_provider=3)


def test_without_the_package_the_interceptor_does_nothing_and_says_how_to_get_it(
    monkeypatch, caplog
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    interceptor = telemetry()
    assert type(interceptor) is Interceptor
    assert "pip install swarm-actors[otel]" in caplog.text


def test_opentelemetry_is_loaded_only_by_telemetry():
    code = (
        "import sys, swarm, swarm.observability, swarm.system\n"
        "swarm.Swarm(interceptors=[swarm.Interceptor()])\n"
        "assert 'opentelemetry' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

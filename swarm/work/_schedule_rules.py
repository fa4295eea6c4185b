"""Schedules: when the next task of one is due, and the commit that submits it. Pure."""

import datetime
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
import orjson

from swarm.model import (
    EPOCH,
    JSON,
    MICRO,
    Document,
    Path,
    TaskCreated,
    check_name,
    from_datetime,
    kept_json,
    shown,
    to_datetime,
)
from swarm.ports import Plan, View, Write
from swarm.work._task_record import NEVER, TaskSpec, new_record, task_path

SCHEDULES: Final = Path.of("global", "schedules")

COUNTED: Final = 1_000
"""Up to how many missed times of a cron expression are counted together."""


def schedule_path(name: str) -> Path:
    """Return where a schedule stands."""
    return SCHEDULES.child(name)


@attrs.frozen(kw_only=True, repr=False)
class TaskSchedule:
    """Tasks that are submitted again and again, at one moment.

    Attributes:
        name: Its name.
        template: The task, without an id.
        cron: When, as a cron expression; None: by `every`.
        every: The seconds between two tasks; None: by `cron`.
        zone: The time zone that the cron expression is in.
        due: When the next task is due, in kernel time.
        count: How many tasks were submitted.
        missed: How many were not, because no process was there when they were due;
            of a cron expression, at most 1,000 are counted at a time.
    """

    name: str
    template: TaskSpec = attrs.field(eq=lambda spec: orjson.dumps(spec.to_json()))
    cron: str | None
    every: float | None
    zone: str
    due: int = NEVER
    count: int = 0
    missed: int = 0

    @property
    def kind(self) -> str:
        """The kind of its tasks."""
        return self.template.kind

    @property
    def payload(self) -> JSON:
        """The payload of its tasks: a private copy."""
        return orjson.loads(self.template.payload)

    @property
    def next_at(self) -> datetime.datetime | None:
        """When the next task is due, in UTC; None: never again."""
        return None if self.due >= NEVER else to_datetime(self.due)

    @property
    def period(self) -> int | None:
        """The microseconds between two tasks; None: by `cron`."""
        return None if self.every is None else round(self.every * MICRO)

    def __repr__(self) -> str:
        when = f"every {self.every:g} s" if self.every is not None else self.cron
        due = "never" if self.next_at is None else self.next_at.isoformat()
        return f"<TaskSchedule '{self.name}' of {self.kind}, {when}, next {due}>"

    def to_json(self) -> dict[str, Any]:
        """Return the document; its times are in microseconds."""
        return {
            "name": self.name,
            "template": self.template.to_json(),
            "cron": self.cron,
            "every": self.period,
            "zone": self.zone,
            "next_at": self.due,
            "count": self.count,
            "missed": self.missed,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        period = value["every"]
        return cls(
            name=value["name"],
            template=TaskSpec.from_json(value["template"]),
            cron=value["cron"],
            every=None if period is None else period / MICRO,
            zone=value["zone"],
            due=value["next_at"],
            count=value["count"],
            missed=value["missed"],
        )

    def after(self, at: int) -> int:
        """Return its first time when it begins at `at`, or the one after that time."""
        if self.period is not None:
            return at + self.period
        return next(cron_times(self.cron or "", self.zone, at), NEVER)


# --- times ----------------------------------------------------------------------------


def check_cron(cron: object, zone: object) -> None:
    """Refuse what is no cron expression, or no time zone."""
    from cronsim import CronSim, CronSimError  # only programs with schedules need it

    if not isinstance(cron, str) or not isinstance(zone, str):
        raise TypeError(f"cron and zone are text, not {shown(cron)} and {shown(zone)}")
    try:
        CronSim(cron, EPOCH.astimezone(ZoneInfo(zone)))
    except CronSimError as error:
        raise ValueError(f"{shown(cron)} is not a cron expression: {error}") from None
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones, too long
        raise ValueError(f"{shown(zone)} is not a time zone") from None


def cron_times(
    cron: str, zone: str, at: int, *, reverse: bool = False
) -> Iterator[int]:
    """Yield the times after `at` that a cron expression means, earliest first.

    With `reverse`, the times before it, latest first.
    """
    from cronsim import CronSim

    start = to_datetime(at).astimezone(ZoneInfo(zone))
    for found in CronSim(cron, start, reverse):
        yield from_datetime(found)


def cron_until(cron: str, zone: str, due: int, now: int) -> tuple[int, int]:
    """Return the last time from `due` to `now`, and how many came before it.

    They are counted up to `COUNTED`: years of minutes would take minutes to count.
    """
    last, missed = due, 0
    for later in islice(cron_times(cron, zone, due), COUNTED):
        if later > now:
            return last, missed
        last, missed = later, missed + 1
    return next(cron_times(cron, zone, now + 1, reverse=True)), COUNTED


def task_id_at(name: str, due: str) -> str:
    """Return the id of the task that a schedule submits for a time in ISO format."""
    return f"{name}@{due}"


def check_schedule_name(name: str) -> None:
    """Refuse a name that is no name, or too long for the ids of a schedule's tasks."""
    check_name("name", name)
    schedule_path(name)
    task_path(task_id_at(name, to_datetime(1).isoformat()))


# --- the rules ------------------------------------------------------------------------


def load_schedule(view: View, name: str) -> TaskSchedule | None:
    """Return a schedule, or None: there is none of this name."""
    return schedule_in(view.find(schedule_path(name)))


def schedule_in(document: Document | None) -> TaskSchedule | None:
    """Return the schedule in a document, or None: there is none."""
    if document is None or document.is_deleted:
        return None
    return TaskSchedule.from_json(document.value)


def plan_schedule(view: View, schedule: TaskSchedule) -> Plan:
    """Keep a schedule; one that is there with the same terms goes on. Outcome: it."""
    known = load_schedule(view, schedule.name)
    if known is not None and known == attrs.evolve(
        schedule, due=known.due, count=known.count, missed=known.missed
    ):
        return Plan(outcome=known)
    kept = attrs.evolve(schedule, due=schedule.after(view.now))
    return Plan((_write(kept),), (), kept)


def plan_fire(view: View, name: str) -> Plan:
    """Submit the task of a schedule that is due, once for all processes.

    Of the times that were missed, only the last one gets a task; the others are
    counted. Outcome: the schedule from now on, or None: there is none.
    """
    schedule = load_schedule(view, name)
    now = view.now
    if schedule is None or schedule.due > now:
        return Plan(outcome=schedule)
    due, period = schedule.due, schedule.period
    if period is not None:
        missed = (now - due) // period
        due += missed * period
    else:
        due, missed = cron_until(schedule.cron or "", schedule.zone, due, now)
    kept = attrs.evolve(
        schedule,
        due=schedule.after(due),
        count=schedule.count + 1,
        missed=schedule.missed + missed,
    )
    shown = to_datetime(due).isoformat()
    metadata = orjson.loads(schedule.template.metadata)
    task_id = task_id_at(name, shown)
    path = task_path(task_id)
    spec = attrs.evolve(
        schedule.template,
        id=task_id,
        metadata=kept_json({**metadata, "schedule": name, "due": shown}),
        path=path,
    )
    if view.find(path) is not None:
        return Plan((_write(kept),), (), kept)
    record = new_record(now, spec)
    events = (TaskCreated(spec.id, spec.kind),)
    return Plan((_write(kept), Write(path, record=record)), events, kept)


def plan_unschedule(view: View, name: str) -> Plan:
    """Remove a schedule. Outcome: whether there was one."""
    if load_schedule(view, name) is None:
        return Plan(outcome=False)
    return Plan((Write(schedule_path(name)),), (), True)


def _write(schedule: TaskSchedule) -> Write:
    return Write(schedule_path(schedule.name), kept_json(schedule.to_json()))


def all_schedules(view: View) -> list[Document]:
    """Return the document of every schedule."""
    return list(view.documents(SCHEDULES))

"""Schedules: when the next task of one is due, and the commit that submits it. Pure."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
import orjson

from swarm.model import (
    EPOCH,
    Document,
    Path,
    TaskCreated,
    from_datetime,
    kept_json,
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


@attrs.frozen(kw_only=True)
class ScheduleRecord:
    """Tasks that are submitted again and again. Times are kernel time.

    Attributes:
        name: Its name.
        template: The task, without an id.
        cron: When, as a cron expression; None: by `every`.
        every: The time between two tasks, in microseconds; None: by `cron`.
        zone: The time zone that the cron expression is in.
        next_at: When the next task is due.
        count: How many tasks were submitted.
        missed: How many were not, because no process was there when they were due;
            of a cron expression, at most `COUNTED` for each time that it fires late.
    """

    name: str
    template: TaskSpec
    cron: str | None
    every: int | None
    zone: str
    next_at: int
    count: int = 0
    missed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "name": self.name,
            "template": self.template.to_json(),
            "cron": self.cron,
            "every": self.every,
            "zone": self.zone,
            "next_at": self.next_at,
            "count": self.count,
            "missed": self.missed,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(**{**value, "template": TaskSpec.from_json(value["template"])})

    def after(self, at: int) -> int:
        """Return the first time after `at` at which a task is due; NEVER: none."""
        if self.every is not None:
            return at + self.every - (at - self.next_at) % self.every
        return cron_after(self.cron or "", self.zone, at)

    def is_like(self, other: "ScheduleRecord") -> bool:
        """Return whether both submit the same tasks at the same times."""
        return (self.cron, self.every, self.zone) == (
            other.cron,
            other.every,
            other.zone,
        ) and orjson.dumps(self.template.to_json()) == orjson.dumps(
            other.template.to_json()
        )


def check_cron(cron: object, zone: object) -> None:
    """Refuse what is no cron expression, or no time zone."""
    from cronsim import CronSim, CronSimError  # only programs with schedules need it

    if not isinstance(cron, str) or not isinstance(zone, str):
        raise TypeError(f"cron and zone are text, not {cron!r} and {zone!r}")
    try:
        CronSim(cron, EPOCH.astimezone(ZoneInfo(zone)))
    except CronSimError as error:
        raise ValueError(f"{cron!r} is not a cron expression: {error}") from None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{zone!r} is not a time zone: {error}") from None


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


def cron_after(cron: str, zone: str, at: int) -> int:
    """Return the first time after `at` that a cron expression means; NEVER: none."""
    return next(cron_times(cron, zone, at), NEVER)


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


def check_name(name: str) -> None:
    """Refuse a name that is too long for a path of a schedule or of its tasks."""
    schedule_path(name)
    task_path(task_id_at(name, to_datetime(1).isoformat()))


def load_schedule(view: View, name: str) -> ScheduleRecord | None:
    """Return a schedule, or None: there is none of this name."""
    path = schedule_path(name)
    document = view.find(path)
    if document is None or document.path != path:
        return None
    return schedule_in(document)


def schedule_in(document: Document) -> ScheduleRecord | None:
    """Return the schedule in a document, or None: it is gone."""
    if document.is_deleted:
        return None
    return ScheduleRecord.from_json(orjson.loads(document.json))


def plan_schedule(view: View, schedule: ScheduleRecord) -> Plan:
    """Keep a schedule; one that is there with the same terms goes on. Outcome: it."""
    known = load_schedule(view, schedule.name)
    if known is not None and known.is_like(schedule):
        return Plan(outcome=known)
    if schedule.every is not None:
        first = view.now + schedule.every
    else:
        first = cron_after(schedule.cron or "", schedule.zone, view.now)
    kept = attrs.evolve(schedule, next_at=first)
    return Plan((_write(kept),), (), kept)


def plan_fire(view: View, name: str) -> Plan:
    """Submit the task of a schedule that is due, once for all processes.

    Of the times that were missed, only the last one gets a task; the others are
    counted. Outcome: the schedule from now on, or None: there is none.
    """
    schedule = load_schedule(view, name)
    now = view.now
    if schedule is None or schedule.next_at > now:
        return Plan(outcome=schedule)
    due, missed = schedule.next_at, 0
    if schedule.every is not None:
        missed = (now - due) // schedule.every
        due += missed * schedule.every
    else:
        due, missed = cron_until(schedule.cron or "", schedule.zone, due, now)
    kept = attrs.evolve(
        schedule,
        next_at=schedule.after(due),
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


def _write(schedule: ScheduleRecord) -> Write:
    return Write(schedule_path(schedule.name), kept_json(schedule.to_json()))


def all_schedules(view: View) -> list[Document]:
    """Return the document of every schedule."""
    return list(view.documents(SCHEDULES))

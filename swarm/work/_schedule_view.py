"""A schedule as users see it."""

import datetime

import attrs
import orjson

from swarm.model import JSON, to_datetime
from swarm.work._schedule_rules import ScheduleRecord
from swarm.work._task_record import MICRO, NEVER


@attrs.frozen(kw_only=True, repr=False)
class TaskSchedule:
    """Tasks that are submitted again and again, at one moment.

    Attributes:
        name: Its name.
        kind: The kind of its tasks.
        payload: Their payload: a private copy.
        cron: When, as a cron expression; None: by `every`.
        every: The seconds between two tasks; None: by `cron`.
        zone: The time zone that the cron expression is in.
        next_at: When the next task is due; None: never again.
        count: How many tasks were submitted.
        missed: How many were not, because no process was there when they were due;
            of a cron expression, at most 1,000 are counted at a time.
    """

    name: str
    kind: str
    payload: JSON
    cron: str | None
    every: float | None
    zone: str
    next_at: datetime.datetime | None
    count: int
    missed: int

    def __repr__(self) -> str:
        when = f"every {self.every:g} s" if self.every is not None else self.cron
        due = "never" if self.next_at is None else self.next_at.isoformat()
        return f"<TaskSchedule '{self.name}' of {self.kind}, {when}, next {due}>"


def schedule_view(record: ScheduleRecord) -> TaskSchedule:
    """Return what users see of a schedule."""
    every, at = record.every, record.next_at
    return TaskSchedule(
        name=record.name,
        kind=record.template.kind,
        payload=orjson.loads(record.template.payload),
        cron=record.cron,
        every=None if every is None else every / MICRO,
        zone=record.zone,
        next_at=None if at >= NEVER else to_datetime(at),
        count=record.count,
        missed=record.missed,
    )

"""The rules of schedules: which times were missed."""

import pytest

from swarm.model import OWNER
from swarm.work._schedule_rules import COUNTED, TaskSchedule, cron_until
from swarm.work._task_record import TaskSpec

SECOND = 1_000_000
MINUTE = 60 * SECOND
YEAR = 365 * 24 * 60 * MINUTE
BEGIN = 56 * YEAR


def test_the_last_missed_time_of_a_cron_expression_is_found_without_counting_all():
    now = BEGIN + 50 * YEAR
    last, missed = cron_until("* * * * *", "Europe/Berlin", BEGIN, now + 30 * SECOND)
    assert (last, missed) == (now, COUNTED)
    last, missed = cron_until("* * * * *", "UTC", BEGIN, BEGIN + 90 * SECOND)
    assert (last, missed) == (BEGIN + MINUTE, 1)
    assert cron_until("0 7 * * *", "UTC", BEGIN, BEGIN) == (BEGIN, 0)


@pytest.mark.parametrize("every", [None, 60.0, 0.1, 333_333 / 1_000_000])
def test_a_stored_schedule_has_its_times_in_microseconds(every):
    cron = "0 7 * * *" if every is None else None
    spec = TaskSpec("", "report.daily", b"null", OWNER)
    schedule = TaskSchedule(
        name="daily", template=spec, cron=cron, every=every, zone="UTC", due=5, count=2
    )
    stored = schedule.to_json()
    period = None if every is None else round(every * 1_000_000)
    assert (stored["every"], stored["next_at"]) == (period, 5)
    assert TaskSchedule.from_json(stored) == schedule

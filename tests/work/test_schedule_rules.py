"""The rules of schedules: which times were missed."""

from swarm.work._schedule_rules import COUNTED, cron_until

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

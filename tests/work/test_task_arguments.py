"""Wrong arguments of tasks: one clear error each, and nothing is left of them."""

import pytest

from swarm.errors import (
    ConfigMismatch,
    InvalidPath,
    InvalidValue,
    LimitExceeded,
    NotFound,
)
from swarm.model import Backoff
from swarm.work import serves
from tests.support.work import KERNELS, offices, quiet

TOO_LONG = 1e12

pytestmark = pytest.mark.parametrize("kind", KERNELS)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": TOO_LONG},
        {"deadline": TOO_LONG},
        {"timeout": TOO_LONG},
        {"timeout": 1e-9},
        {"max_retries": 10**30},
    ],
)
async def test_numbers_that_no_record_can_hold_are_refused(kind, options):
    async with offices(kind) as office:
        tasks = office.tasks()
        with pytest.raises(ValueError, match=f"{next(iter(options))} is "):
            await tasks.submit("a", **options)
        assert tasks.find() == []


async def test_an_unknown_id_is_told_by_the_handle_and_a_wrong_one_by_get(kind):
    async with offices(kind) as office:
        task = office.tasks().get("t-9")
        for asking in (task.record(), task.result(), task.cancel(), task.explain()):
            with pytest.raises(NotFound, match="no task 't-9'"):
                await asking
        with pytest.raises(InvalidPath):
            office.tasks().get("")


async def test_a_kind_or_key_that_is_no_path_is_named(kind):
    async with offices(kind) as office:
        with pytest.raises(InvalidPath, match=r"a kind is dotted words: .* empty"):
            await office.tasks().submit("")
        with pytest.raises(InvalidPath, match="a key is a name: "):
            await office.tasks().submit("a", key="")
        assert office.tasks().find() == []


@pytest.mark.parametrize("timeout", [-1, float("nan")])
async def test_a_wait_of_less_than_no_time_is_refused(kind, timeout):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        with pytest.raises(ValueError, match="a time-out is 0 seconds or more"):
            await task.result(timeout)
        with pytest.raises(ValueError, match="a time-out is 0 seconds or more"):
            tasks.claim("a", timeout=timeout)


async def test_a_claim_is_not_snoozed_beyond_what_a_date_can_say(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        claim = await tasks.claim("a")
        with pytest.raises(ValueError, match="snooze is from"):
            await claim.snooze(TOO_LONG)
        assert tasks.find()[0].status == "running"


async def test_a_schedule_has_a_period_that_the_clock_can_tell(kind):
    async with offices(kind) as office:
        for every in (1e-9, TOO_LONG):
            with pytest.raises(ValueError, match="every is from"):
                await office.tasks().schedule("tick", "a", every=every)


def test_a_backoff_waits_no_longer_than_a_date_can_say(kind):
    with pytest.raises(ValueError, match="first <= most <="):
        Backoff(1, TOO_LONG)
    with pytest.raises(TypeError, match="first is a number of seconds"):
        Backoff("1", 2)


async def test_a_key_of_a_task_of_another_kind_is_refused(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("mail", key="ada")
        with pytest.raises(ConfigMismatch, match="put the kind into the key"):
            await tasks.submit("text", key="ada")
        assert await tasks.submit("mail", key="ada") == task
        await task.cancel()
        assert (await tasks.submit("text", key="ada")).kind == "text"


async def test_a_gather_with_a_wrong_input_submits_nothing(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        with pytest.raises(InvalidValue, match="the payload of a task is not a JSON"):
            await tasks.gather("a", [1, object()])
        assert tasks.find() == []


async def test_a_kind_that_is_not_text_is_refused(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        for wrong in (None, ["a"], 3):
            with pytest.raises(TypeError, match="a kind is text"):
                tasks.claim(wrong)
        with pytest.raises(TypeError, match="a kind is text"):
            tasks.find(kind=["a"])
        with pytest.raises(TypeError, match=r'write @serves\("a.kind"\)'):
            serves(quiet)


async def test_a_wrong_end_of_a_claim_is_refused_and_the_claim_lives_on(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        claim = await tasks.claim("a")
        with pytest.raises(TypeError, match="retry is True or False"):
            await claim.fail("no", retry="no")
        with pytest.raises(TypeError, match="the reason is text"):
            await claim.release(3)
        with pytest.raises(InvalidValue, match="the result of a task is not a JSON"):
            await claim.complete(object())
        with pytest.raises(LimitExceeded, match="pass a reference to it"):
            await claim.complete("x" * 2_000_000)
        with pytest.raises(InvalidValue, match="the result of a step"):
            await claim.step("a", object)
        with pytest.raises(InvalidValue, match="the arguments of step 'a'"):
            await claim.step("a", len, object())
        await claim.complete(1)
        assert await task.result() == 1


LONE = "\ud800"


@pytest.mark.parametrize("option", ["to", "capability", "role", "schema_version"])
async def test_text_that_no_json_can_hold_is_refused(kind, option):
    async with offices(kind) as office:
        tasks = office.tasks()
        with pytest.raises(InvalidValue, match=f"{option} is not valid Unicode"):
            await tasks.submit("a", **{option: LONE})
        with pytest.raises(LimitExceeded, match=f"{option} has at most 65,536 char"):
            await tasks.submit("a", **{option: "x" * 70_000})
        assert tasks.find() == []


async def test_a_reason_or_message_that_no_json_can_hold_is_refused(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        claim = await tasks.claim("a")
        for refused in (
            claim.progress(1, LONE),
            claim.snooze(1, LONE),
            claim.release(LONE),
            task.cancel(LONE),
        ):
            with pytest.raises(InvalidValue, match="is not valid Unicode"):
                await refused
        await claim.complete()


async def test_an_error_about_a_file_whose_name_is_not_unicode_fails_the_attempt(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        for error in (FileNotFoundError(2, "no file", LONE), f"no {LONE}"):
            await tasks.submit("a", max_retries=0)
            claim = await tasks.claim("a")
            await claim.fail(error)
            (told,) = tasks.find()[0].errors
            assert "\\ud800" in told


async def test_a_partial_result_is_no_larger_than_a_document(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        claim = await tasks.claim("a")
        await claim.update({"a": "x" * 700_000})
        with pytest.raises(LimitExceeded, match=r"the partial result .* is too large"):
            await claim.update({"b": "x" * 700_000})
        assert claim.partial.keys() == {"a"}
        await claim.complete()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_number_that_json_cannot_hold_is_no_argument_of_a_step(kind, number):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        claim = await tasks.claim("a")
        with pytest.raises(InvalidValue, match=r"the arguments of step 's'"):
            await claim.step("s", abs, number)
        await claim.complete()

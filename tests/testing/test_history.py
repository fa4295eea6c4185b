import asyncio

import pytest

from swarm.testing import PENDING, History
from tests.support.jepsen import history_in


async def answer(value):
    return value


async def fall(error):
    raise error


def test_operations_keep_the_order_of_invocations_and_answers():
    history = History()
    first = history.invoke("a", "write", 1)
    second = history.invoke("b", "read")
    history.ok(second, 1)
    history.ok(first)
    write, read = history.operations
    assert (write.process, write.op, write.args, write.result) == (
        "a",
        "write",
        (1,),
        None,
    )
    assert (write.invoked, read.invoked, read.returned, write.returned) == (0, 1, 2, 3)
    assert str(read) == "b read() -> 1  [1, 2]"


def test_an_operation_without_an_answer_is_pending():
    history = History()
    history.invoke("a", "write", 1)
    (operation,) = history
    assert operation.result is PENDING
    assert operation.returned is None
    assert str(history) == "a write(1) pending  [0, ?]"


def test_a_failed_operation_leaves_no_trace():
    history = History()
    history.fail(history.invoke("a", "write", 1))
    assert history.operations == ()
    assert len(history) == 0


@pytest.mark.parametrize("first", ["ok", "fail"])
@pytest.mark.parametrize("second", ["ok", "fail"])
def test_a_call_is_answered_only_once(first, second):
    history = History()
    call = history.invoke("a", "read")
    getattr(history, first)(call)
    with pytest.raises(ValueError, match="answered already"):
        getattr(history, second)(call)


def test_a_call_belongs_to_its_history():
    call = History().invoke("a", "read")
    with pytest.raises(ValueError, match="another history"):
        History().ok(call, 1)


async def test_record_notes_the_answer_and_returns_it():
    history = History()
    assert await history.record("a", "read", answer(3)) == 3
    await history.record("a", "write", answer(None), 4)
    assert [str(each) for each in history] == [
        "a read() -> 3  [0, 1]",
        "a write(4) -> None  [2, 3]",
    ]


async def test_record_leaves_an_unexplained_exception_pending():
    history = History()
    for error in (OSError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await history.record("a", "write", fall(error), 1)
    assert [each.result for each in history] == [PENDING, PENDING]


async def test_record_knows_which_exceptions_are_failures_and_which_are_answers():
    history = History()
    judged = {
        "failures": (ConnectionRefusedError,),
        "answers": {BlockingIOError: False},
    }
    for error in (ConnectionRefusedError(), BlockingIOError()):
        with pytest.raises(type(error)):
            await history.record("a", "acquire", fall(error), **judged)
    (operation,) = history
    assert operation.result is False


LOG = """
INFO  jepsen.core - Worker 0 starting
INFO  jepsen.util - 0\t:invoke\t:write\t4
INFO  jepsen.util - 1\t:invoke\t:cas\t[4 nil]
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 0\t:ok\t:write\t4
INFO  jepsen.util - 1\t:fail\t:cas\t[4 nil]
INFO  jepsen.util - 2\t:invoke\t:read\tnil
INFO  jepsen.util - 3\t:invoke\t:cas\t[1 2]
INFO  jepsen.util - 2\t:fail\t:read\t:timed-out
INFO  jepsen.util - 3\t:info\t:cas\t:timed-out
INFO  jepsen.util - 0\t:invoke\t:read\tnil
0 :ok :read "four"
INFO  jepsen.util - 0\t:invoke\t:cas\t[4 5]
INFO  jepsen.util - 1\t:invoke\t:cas\t[5 6]
INFO  jepsen.util - 1\t:fail\t:cas\t[5 6] :no-leader
INFO  jepsen.util - 0\t:ok\t:cas\t[4 5]
INFO  jepsen.util - 2\t:invoke\t:write\t-1
"""


def test_a_jepsen_log_becomes_a_history():
    assert str(history_in(LOG.splitlines())).splitlines() == [
        "0 write(4) -> None  [0, 2]",
        "1 cas(4, None) -> False  [1, 3]",
        "3 cas(1, 2) pending  [5, ?]",
        "0 read() -> 'four'  [6, 7]",
        "0 cas(4, 5) -> True  [8, 10]",
        "2 write(-1) pending  [11, ?]",
    ]

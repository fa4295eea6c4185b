"""Every rule of every model is shown to hold, and shown to be able to fail."""

import pytest

from swarm.testing import (
    BROKEN,
    EMPTY,
    ILLEGAL,
    LEFT,
    PENDING,
    BarrierModel,
    History,
    KVModel,
    LockModel,
    Ok,
    QueueModel,
    RegisterModel,
    SemaphoreModel,
    Violation,
    check_linearizable,
)


def asks(process, op, *args):
    """The process invokes and waits."""
    return "asks", process, (op, *args)


def hears(process, result=None):
    """The process's open call is answered."""
    return "hears", process, result


def did(process, op, *args, gives=None):
    """An operation that nothing overlaps."""
    return "did", process, (op, *args, gives)


def told(*events):
    """The history of `events`."""
    history, calls = History(), {}
    for kind, process, what in events:
        if kind == "asks":
            calls[process] = history.invoke(process, *what)
        elif kind == "hears":
            history.ok(calls.pop(process), what)
        else:
            *call, result = what
            history.ok(history.invoke(process, *call), result)
    return history


def assert_allowed(model, *events):
    verdict = check_linearizable(told(*events), model)
    assert isinstance(verdict, Ok), verdict.explain()


def assert_caught(model, *events):
    verdict = check_linearizable(told(*events), model)
    assert isinstance(verdict, Violation), verdict.explain()


def cases(*table):
    """(name of the planted bug, model, the right history, the wrong one)."""
    return pytest.mark.parametrize(
        ("model", "right", "wrong"),
        [pytest.param(*case[1:], id=case[0]) for case in table],
    )


@cases(
    (
        "stale read",
        RegisterModel(),
        [did("a", "write", 1), did("b", "read", gives=1)],
        [did("a", "write", 1), did("b", "read", gives=None)],
    ),
    (
        "reads that disagree on the order",
        RegisterModel(),
        [
            asks("a", "write", 1),
            did("b", "read"),
            did("b", "read", gives=1),
            hears("a"),
        ],
        [
            asks("a", "write", 1),
            did("b", "read", gives=1),
            did("b", "read"),
            hears("a"),
        ],
    ),
    (
        "compare-and-set that is not atomic",
        RegisterModel(0),
        [
            asks("a", "cas", 0, 1),
            asks("b", "cas", 0, 2),
            hears("a", True),
            hears("b", False),
        ],
        [
            asks("a", "cas", 0, 1),
            asks("b", "cas", 0, 2),
            hears("a", True),
            hears("b", True),
        ],
    ),
    (
        "compare-and-set refused without reason",
        RegisterModel(0),
        [did("a", "cas", 1, 2, gives=False)],
        [did("a", "cas", 0, 2, gives=False)],
    ),
)
def test_register_model_trips_on(model, right, wrong):
    assert_allowed(model, *right)
    assert_caught(model, *wrong)


@cases(
    (
        "key that shows another's value",
        KVModel(),
        [did("a", "put", "x", 1), did("b", "get", "y"), did("b", "get", "x", gives=1)],
        [did("a", "put", "x", 1), did("b", "get", "y", gives=1)],
    ),
    (
        "lost append",
        KVModel(),
        [
            asks("a", "append", "x", "1"),
            asks("b", "append", "x", "2"),
            *(hears("a"), hears("b")),
            did("c", "get", "x", gives="21"),
        ],
        [
            asks("a", "append", "x", "1"),
            asks("b", "append", "x", "2"),
            *(hears("a"), hears("b")),
            did("c", "get", "x", gives="2"),
        ],
    ),
    (
        "deleted value that comes back",
        KVModel(),
        [
            did("a", "put", "x", 1),
            did("a", "delete", "x", gives=True),
            did("a", "get", "x"),
        ],
        [
            did("a", "put", "x", 1),
            did("a", "delete", "x", gives=True),
            did("a", "get", "x", gives=1),
        ],
    ),
    (
        "delete that two clients win",
        KVModel(),
        [
            did("a", "put", "x", 1),
            asks("a", "delete", "x"),
            asks("b", "delete", "x"),
            *(hears("a", True), hears("b", False)),
        ],
        [
            did("a", "put", "x", 1),
            asks("a", "delete", "x"),
            asks("b", "delete", "x"),
            *(hears("a", True), hears("b", True)),
        ],
    ),
    (
        "creation that two clients win",
        KVModel(),
        [
            did("a", "cas", "x", None, 1, gives=True),
            did("b", "cas", "x", None, 2, gives=False),
        ],
        [
            did("a", "cas", "x", None, 1, gives=True),
            did("b", "cas", "x", None, 2, gives=True),
        ],
    ),
)
def test_kv_model_trips_on(model, right, wrong):
    assert_allowed(model, *right)
    assert_caught(model, *wrong)


FENCED = LockModel(fenced=True)


@cases(
    (
        "two exclusive holders",
        LockModel(),
        [did("a", "acquire"), asks("b", "acquire"), did("a", "release"), hears("b")],
        [did("a", "acquire"), asks("b", "acquire"), hears("b"), did("a", "release")],
    ),
    (
        "writer beside a reader",
        LockModel(),
        [did("a", "acquire", "shared"), did("b", "acquire", "shared")],
        [did("a", "acquire", "shared"), did("b", "acquire", "exclusive")],
    ),
    (
        "two upgradeable holders",
        LockModel(),
        [did("a", "acquire", "upgradeable"), did("b", "acquire", "shared")],
        [did("a", "acquire", "upgradeable"), did("b", "acquire", "upgradeable")],
    ),
    (
        "release that counts twice",
        LockModel(),
        [did("a", "acquire"), did("a", "release"), did("a", "release", gives=False)],
        [did("a", "acquire"), did("a", "release"), did("a", "release")],
    ),
    (
        "release of another's grant",
        LockModel(),
        [did("a", "acquire"), did("b", "release", gives=False)],
        [did("a", "acquire"), did("b", "release", gives=True)],
    ),
    (
        "release that is refused to the holder",
        LockModel(),
        [did("a", "acquire"), did("a", "release", gives=True)],
        [did("a", "acquire"), did("a", "release", gives=False)],
    ),
    (
        "timed-out waiter that holds the lock",
        LockModel(),
        [did("a", "acquire", gives=False), did("b", "acquire")],
        [did("a", "acquire", gives=False), did("a", "release")],
    ),
    (
        "free lock that is refused",
        LockModel(barging=True),
        [did("a", "acquire"), did("b", "acquire", "shared", gives=False)],
        [
            did("a", "acquire", "shared"),
            did("b", "acquire", "shared", gives=False),
        ],
    ),
    (
        "upgrade beside a reader",
        LockModel(),
        [
            *(did("a", "acquire", "shared"), did("b", "acquire", "shared")),
            asks("a", "upgrade"),
            did("b", "upgrade", gives=False),
            did("b", "release"),
            hears("a"),
        ],
        [
            *(did("a", "acquire", "shared"), did("b", "acquire", "shared")),
            asks("a", "upgrade"),
            hears("a"),
            did("b", "release"),
        ],
    ),
    (
        "upgrade of nothing",
        LockModel(),
        [did("a", "upgrade", gives=False)],
        [did("a", "upgrade")],
    ),
    (
        "downgrade that lets a writer in between",
        LockModel(),
        [did("a", "acquire"), did("a", "downgrade"), did("b", "acquire", "shared")],
        [did("a", "acquire"), did("a", "downgrade"), did("b", "acquire")],
    ),
    (
        "downgrade to a stronger mode",
        LockModel(),
        [did("a", "acquire"), did("a", "downgrade", "upgradeable")],
        [did("a", "acquire", "shared"), did("a", "downgrade", "upgradeable")],
    ),
    (
        "downgrade of nothing",
        LockModel(),
        [did("a", "downgrade", gives=False)],
        [did("a", "downgrade")],
    ),
    (
        "lost lease that is renewed",
        LockModel(),
        [did("a", "acquire"), did("o", "expire", "a"), did("a", "renew", gives=False)],
        [did("a", "acquire"), did("o", "expire", "a"), did("a", "renew")],
    ),
    (
        "expiry that takes another's grant",
        LockModel(),
        [
            did("a", "acquire"),
            did("o", "expire", "b"),
            did("b", "acquire", gives=False),
        ],
        [did("a", "acquire"), did("o", "expire", "b"), did("b", "acquire")],
    ),
    (
        "token that does not grow",
        FENCED,
        [
            did("a", "acquire", gives=1),
            *(did("a", "release"), did("b", "acquire", gives=2)),
        ],
        [
            did("a", "acquire", gives=2),
            *(did("a", "release"), did("b", "acquire", gives=2)),
        ],
    ),
    (
        "upgrade that keeps the token",
        FENCED,
        [did("a", "acquire", "shared", gives=1), did("a", "upgrade", gives=2)],
        [did("a", "acquire", "shared", gives=1), did("a", "upgrade", gives=1)],
    ),
    (
        "write that a stale token lets through",
        FENCED,
        [
            did("a", "acquire", gives=1),
            did("o", "expire", "a"),
            did("a", "validate", 1, gives=False),
        ],
        [
            did("a", "acquire", gives=1),
            did("o", "expire", "a"),
            did("a", "validate", 1, gives=True),
        ],
    ),
    (
        "release by a stale token",
        FENCED,
        [
            *(did("a", "acquire", gives=1), did("a", "downgrade", gives=2)),
            *(did("a", "release", 1, gives=False), did("a", "release", 2)),
        ],
        [
            *(did("a", "acquire", gives=1), did("a", "downgrade", gives=2)),
            did("a", "release", 1),
        ],
    ),
)
def test_lock_model_trips_on(model, right, wrong):
    assert_allowed(model, *right)
    assert_caught(model, *wrong)


def test_a_pending_acquire_may_hold_the_lock_or_not():
    lost = [asks("a", "acquire"), did("b", "acquire", gives=False)]
    assert_allowed(LockModel(barging=True), *lost)
    assert_allowed(LockModel(), *lost, did("c", "acquire"))
    assert_allowed(FENCED, asks("a", "acquire"), did("o", "validate", 1, gives=False))
    assert_caught(LockModel(), *lost, did("c", "acquire"), did("b", "acquire"))


def test_one_owner_may_hold_two_shared_grants():
    twice = [did("a", "acquire", "shared"), did("a", "acquire", "shared")]
    assert_allowed(LockModel(), *twice, did("a", "release"), did("a", "release"))
    assert_caught(LockModel(), *twice, did("a", "release"), did("b", "acquire"))


def test_a_lock_has_three_modes():
    with pytest.raises(ValueError, match="no mode of shared, upgradeable, exclusive"):
        assert_allowed(LockModel(), did("a", "acquire", "greedy"))


@cases(
    (
        "more permits out than there are",
        SemaphoreModel(2),
        [did("a", "acquire"), did("b", "acquire"), did("c", "acquire", gives=False)],
        [did("a", "acquire"), did("b", "acquire"), did("c", "acquire")],
    ),
    (
        "grant of a part of what was asked",
        SemaphoreModel(3),
        [
            did("a", "acquire", 2),
            asks("b", "acquire", 2),
            did("a", "release", 2),
            hears("b"),
        ],
        [
            did("a", "acquire", 2),
            asks("b", "acquire", 2),
            hears("b"),
            did("a", "release", 2),
        ],
    ),
    (
        "permit lost by a timed-out waiter",
        SemaphoreModel(1, barging=True),
        [
            *(did("a", "acquire"), did("b", "acquire", gives=False)),
            *(did("a", "release"), did("c", "acquire")),
        ],
        [
            *(did("a", "acquire"), did("b", "acquire", gives=False)),
            *(did("a", "release"), did("c", "acquire", gives=False)),
        ],
    ),
    (
        "permit given back twice",
        SemaphoreModel(1),
        [did("a", "acquire"), did("a", "release"), did("a", "release", gives=False)],
        [did("a", "acquire"), did("a", "release"), did("a", "release")],
    ),
    (
        "release that is refused to the holder",
        SemaphoreModel(1),
        [did("a", "acquire"), did("a", "release", gives=True)],
        [did("a", "acquire"), did("a", "release", gives=False)],
    ),
    (
        "release of another's permit",
        SemaphoreModel(2, owned=True),
        [did("a", "acquire"), did("b", "release", gives=False)],
        [did("a", "acquire"), did("b", "release")],
    ),
    (
        "count that is off by one",
        SemaphoreModel(3),
        [did("a", "acquire", 2), did("b", "available", gives=1)],
        [did("a", "acquire", 2), did("b", "available", gives=2)],
    ),
    (
        "shrinking that grants at once",
        SemaphoreModel(2),
        [
            *(did("a", "acquire", 2), did("o", "resize", 1), did("a", "release")),
            did("b", "available", gives=0),
        ],
        [
            *(did("a", "acquire", 2), did("o", "resize", 1), did("a", "release")),
            did("b", "acquire"),
        ],
    ),
    (
        "expired permit that does not come back",
        SemaphoreModel(1, owned=True, barging=True),
        [did("a", "acquire"), did("o", "expire", "a"), did("b", "acquire")],
        [
            did("a", "acquire"),
            did("o", "expire", "a"),
            did("b", "acquire", gives=False),
        ],
    ),
)
def test_semaphore_model_trips_on(model, right, wrong):
    assert_allowed(model, *right)
    assert_caught(model, *wrong)


PUT_TWO = [did("a", "put", 1), did("a", "put", 2)]


@cases(
    (
        "items out of order",
        QueueModel(),
        [*PUT_TWO, did("b", "get", gives=1), did("b", "get", gives=2)],
        [*PUT_TWO, did("b", "get", gives=2), did("b", "get", gives=1)],
    ),
    (
        "stack that serves the oldest",
        QueueModel(lifo=True),
        [*PUT_TWO, did("b", "get", gives=2), did("b", "get", gives=1)],
        [*PUT_TWO, did("b", "get", gives=1), did("b", "get", gives=2)],
    ),
    (
        "item given twice",
        QueueModel(),
        [
            did("a", "put", 1),
            asks("b", "get"),
            asks("c", "get"),
            hears("b", 1),
            hears("c", EMPTY),
        ],
        [
            did("a", "put", 1),
            asks("b", "get"),
            asks("c", "get"),
            hears("b", 1),
            hears("c", 1),
        ],
    ),
    (
        "item lost",
        QueueModel(),
        [asks("a", "put", 1), did("b", "get", gives=EMPTY), hears("a")],
        [did("a", "put", 1), did("b", "get", gives=EMPTY)],
    ),
    (
        "item that nobody put",
        QueueModel(),
        [did("b", "get", gives=EMPTY)],
        [did("b", "get", gives=1)],
    ),
    (
        "more items than fit",
        QueueModel(1),
        [did("a", "put", 1), did("a", "put", 2, gives=False)],
        PUT_TWO,
    ),
    (
        "put that is refused though there is room",
        QueueModel(2),
        PUT_TWO,
        [did("a", "put", 1), did("a", "put", 2, gives=False)],
    ),
    (
        "size that is off by one",
        QueueModel(),
        [*PUT_TWO, did("b", "size", gives=2)],
        [*PUT_TWO, did("b", "size", gives=1)],
    ),
)
def test_queue_model_trips_on(model, right, wrong):
    assert_allowed(model, *right)
    assert_caught(model, *wrong)


def test_a_pending_get_may_have_taken_the_item_or_not():
    lost = [did("a", "put", 1), asks("b", "get")]
    assert_allowed(QueueModel(), *lost, did("c", "get", gives=1))
    assert_allowed(QueueModel(), *lost, did("c", "get", gives=EMPTY))


BOTH_WAIT = [asks("a", "wait"), asks("b", "wait")]


@cases(
    (
        "party that leaves before all have arrived",
        BarrierModel(2),
        [*BOTH_WAIT, hears("a"), hears("b")],
        [asks("a", "wait"), hears("a"), asks("b", "wait"), hears("b")],
    ),
    (
        "arrival that counts twice",
        BarrierModel(2),
        [*BOTH_WAIT, hears("a"), hears("b"), asks("a", "wait")],
        [*BOTH_WAIT, hears("a"), asks("a", "wait"), hears("b"), hears("a")],
    ),
    (
        "ghost arrival: one that gave up is still counted",
        BarrierModel(2, withdraw=True),
        [asks("a", "wait"), hears("a", LEFT), *BOTH_WAIT, hears("b"), hears("a")],
        [asks("a", "wait"), hears("a", LEFT), asks("b", "wait"), hears("b")],
    ),
    (
        "index given twice",
        BarrierModel(2),
        [
            *BOTH_WAIT,
            hears("a", 1),
            hears("b", 0),
            *BOTH_WAIT,
            hears("a", 1),
            hears("b", 0),
        ],
        [*BOTH_WAIT, hears("a", 1), hears("b", 1)],
    ),
    (
        "index out of range",
        BarrierModel(2),
        [*BOTH_WAIT, hears("a", 0), hears("b", 1)],
        [*BOTH_WAIT, hears("a", 1), hears("b", 2)],
    ),
    (
        "parties of one generation told two",
        BarrierModel(2, generation=1),
        [*BOTH_WAIT, hears("a", (1, 0)), hears("b", (1, 1))],
        [*BOTH_WAIT, hears("a", (1, 0)), hears("b", (2, 1))],
    ),
    (
        "outcome that differs within a generation",
        BarrierModel(3),
        [*BOTH_WAIT, did("o", "reset"), hears("a", BROKEN), hears("b", BROKEN)],
        [
            *(*BOTH_WAIT, asks("c", "wait"), did("o", "reset")),
            *(hears("a"), hears("b", BROKEN)),
        ],
    ),
    (
        "break for no reason",
        BarrierModel(3),
        [*BOTH_WAIT, hears("a", LEFT), hears("b", BROKEN)],
        [*BOTH_WAIT, hears("a", BROKEN), hears("b", BROKEN)],
    ),
    (
        "withdrawal that breaks the others",
        BarrierModel(3, withdraw=True),
        [
            *(*BOTH_WAIT, hears("a", LEFT), asks("c", "wait"), asks("d", "wait")),
            *(hears("b"), hears("c"), hears("d")),
        ],
        [*BOTH_WAIT, hears("a", LEFT), hears("b", BROKEN)],
    ),
    (
        "reset of an idle barrier that breaks the next",
        BarrierModel(2),
        [did("o", "reset"), *BOTH_WAIT, hears("a", (0, 0)), hears("b", (0, 1))],
        [did("o", "reset"), *BOTH_WAIT, hears("a", BROKEN), hears("b", BROKEN)],
    ),
    (
        "aborted barrier that lets parties through",
        BarrierModel(2, sticky=True),
        [
            *(did("o", "abort"), did("a", "wait", gives=BROKEN), did("o", "reset")),
            *(*BOTH_WAIT, hears("a", 0), hears("b", 1)),
        ],
        [did("o", "abort"), *BOTH_WAIT, hears("a", 0), hears("b", 1)],
    ),
    (
        "time-out after the barrier tripped",
        BarrierModel(2),
        [*BOTH_WAIT, hears("a", LEFT), asks("c", "wait"), hears("b"), hears("c")],
        [*BOTH_WAIT, hears("a", LEFT), hears("b")],
    ),
)
def test_barrier_model_trips_on(model, right, wrong):
    assert_allowed(model, *right)
    assert_caught(model, *wrong)


def test_a_pending_party_may_have_arrived_and_may_have_left_again():
    lost = [asks("a", "wait"), asks("b", "wait")]
    assert_allowed(BarrierModel(2), *lost, hears("b"))
    assert_allowed(BarrierModel(3), *lost, hears("b", BROKEN))
    assert_caught(BarrierModel(3, withdraw=True), *lost, hears("b", BROKEN))
    assert_caught(BarrierModel(3), *lost, hears("b"))


def test_a_violation_shows_the_barrier():
    verdict = check_linearizable(told(asks("a", "wait"), hears("a")), BarrierModel(2))
    assert "state: <generation 0: 1 waiting, 0 leaving>" in verdict.explain()


def test_answers_without_an_answer_have_a_name():
    assert list(map(repr, [EMPTY, BROKEN, LEFT, PENDING, ILLEGAL])) == [
        "EMPTY",
        "BROKEN",
        "LEFT",
        "PENDING",
        "ILLEGAL",
    ]


def test_a_sticky_barrier_breaks_until_reset_when_a_party_gives_up():
    gone = [asks("a", "wait"), hears("a", LEFT)]
    late = [asks("b", "wait"), hears("b", BROKEN)]
    assert_allowed(BarrierModel(2, sticky=True), *gone, *late)
    assert_caught(BarrierModel(2), *gone, *late)

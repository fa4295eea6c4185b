import itertools
import random
from collections import Counter
from pathlib import Path

import attrs
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
    Model,
    Ok,
    Operation,
    QueueModel,
    RegisterModel,
    SemaphoreModel,
    Undecided,
    Violation,
    check_linearizable,
)
from tests.support.jepsen import history_in

LOGS = Path(__file__).parent / "histories"


# --- an oracle that is obviously right ------------------------------------


def may_be_next(operation, rest):
    return not any(
        each.returned is not None and each.returned < operation.invoked for each in rest
    )


def brute_force(history, model):
    """Whether any order explains the history: no memo, no purity, no partition."""
    parts = [
        (key, each)
        for op in history
        for key, split in [model.split(op)]
        for each in split
    ]

    def explain(states, rest):
        if all(each.returned is None for _, each in rest):
            return True
        for i, (key, operation) in enumerate(rest):
            if may_be_next(operation, [each for _, each in rest]):
                after = model.step(states.get(key, model.initial), operation)
                if after is not ILLEGAL and explain(
                    {**states, key: after}, rest[:i] + rest[i + 1 :]
                ):
                    return True
        return False

    return explain({}, parts)


def most_explained(model, operations):
    """How many answered operations the longest linearizable prefix has."""

    def explain(state, rest):
        best = 0
        for i, operation in enumerate(rest):
            if may_be_next(operation, rest):
                after = model.step(state, operation)
                if after is not ILLEGAL:
                    gain = operation.returned is not None
                    best = max(best, gain + explain(after, rest[:i] + rest[i + 1 :]))
        return best

    return explain(model.initial, operations)


REGISTER = {
    ("read",): (None, 0, 1),
    ("write", 0): (None,),
    ("write", 1): (None,),
    ("cas", 0, 1): (True, False),
    ("cas", 1, 1): (True, False),
    ("cas", None, 0): (True, False),
}
KV = {
    ("get", "x"): (None, "a", "aa"),
    ("get", "y"): (None, "a"),
    ("put", "x", "a"): (None,),
    ("append", "x", "a"): (None,),
    ("append", "y", "a"): (None,),
    ("cas", "y", None, "a"): (True, False),
    ("cas", "x", "a", None): (True, False),
    ("delete", "x"): (True, False, None),
}
LOCK = {
    ("acquire",): (1, 2, 3, False),
    ("acquire", "shared"): (1, 2, 3, False),
    ("acquire", "upgradeable"): (2, 3),
    ("release",): (True, False),
    ("release", 2): (True, False),
    ("upgrade",): (2, 3, 4, False),
    ("downgrade",): (3, 4, False),
    ("renew",): (True, False),
    ("validate", 2): (True, False),
    ("expire", 0): (None,),
}
SEMAPHORE = {
    ("acquire",): (True, False),
    ("acquire", 2): (True, False),
    ("release",): (True, False),
    ("release", 2): (True, False),
    ("available",): (0, 1, 2),
    ("resize", 1): (None,),
}
QUEUE = {
    ("put", "a"): (True, False),
    ("put", "b"): (True, False),
    ("get",): ("a", "b", EMPTY),
    ("size",): (0, 1, 2),
}
BARRIER = {
    ("wait",): ((0, 0), (0, 1), (1, 0), (1, 1), 0, 1, None, BROKEN, LEFT),
    ("reset",): (None,),
    ("abort",): (None,),
}
CASES = {
    "register": (RegisterModel(), REGISTER, 6),
    "kv": (KVModel(), KV, 6),
    "lock": (LockModel(), LOCK, 6),
    "lock fenced barging": (LockModel(fenced=True, barging=True), LOCK, 6),
    "semaphore": (SemaphoreModel(2), SEMAPHORE, 6),
    "semaphore owned barging": (
        SemaphoreModel(2, owned=True, barging=True),
        SEMAPHORE | {("expire", 0): (None,)},
        6,
    ),
    "queue": (QueueModel(2), QUEUE, 6),
    "stack": (QueueModel(lifo=True), QUEUE, 6),
    "barrier": (BarrierModel(2), BARRIER, 4),
    "barrier asyncio": (BarrierModel(2, sticky=True, withdraw=True), BARRIER, 4),
    "lock keyed": (LockModel(barging=True).keyed(), LOCK, 6),
}


def random_history(rng, model, operations, size):
    """Random intervals with mostly right answers, some of them missing."""
    count = rng.randint(2, size)
    times = iter(rng.sample(range(1000), 2 * count))
    drawn = []
    for _ in range(count):
        invoked, returned = sorted((next(times), next(times)))
        if rng.random() < 0.5:  # little overlap gives more violations
            returned = min(returned, invoked + 100 + len(drawn) / 100)
        op, *args = rng.choice(list(operations))
        if ("wait",) in operations and rng.random() < 0.7:
            op, args = "wait", []
        answers = operations[op, *args]
        if model.partition and op not in ("get", "put", "append", "cas", "delete"):
            args = [rng.choice("xy"), *args]
        operation = Operation(
            process=rng.randrange(3),
            op=op,
            args=tuple(args),
            result=PENDING,
            invoked=invoked,
            returned=returned,
        )
        drawn.append((operation, answers))
    states, finished = {}, []
    for operation, answers in sorted(
        drawn, key=lambda each: each[0].invoked + rng.random() * 200
    ):
        if rng.random() < 0.1:
            finished.append(attrs.evolve(operation, returned=None))
            continue
        right = []
        for result in answers:
            key, parts = model.split(attrs.evolve(operation, result=result))
            state = states.get(key, model.initial)
            for part in parts:
                state = ILLEGAL if state is ILLEGAL else model.step(state, part)
            if state is not ILLEGAL:
                right.append((result, key, state))
        if right and rng.random() < 0.6:
            result, key, state = rng.choice(right)
            states[key] = state
        else:
            result = rng.choice(answers)
        finished.append(attrs.evolve(operation, result=result))
    return finished


def assert_proof(verdict, history, model):
    """The linearizations are legal, keep real time, and leave no answer out."""
    seen = Counter()
    for order in verdict.linearizations:
        state = model.initial
        for i, operation in enumerate(order):
            assert may_be_next(operation, order[i:])
            state = model.step(state, operation)
            assert state is not ILLEGAL
        seen.update(each.invoked for each in order if each.returned is not None)
    answered = [op for op in history if op.returned is not None]
    expected = Counter()
    for op in answered:
        expected[op.invoked] += len(model.split(op)[1])
    assert seen == expected


def assert_stuck(verdict, model):
    """The prefix is legal, and nothing answered can follow it."""
    state = model.initial
    for operation in verdict.prefix:
        state = model.step(state, operation)
        assert state is not ILLEGAL
    assert state == verdict.state
    assert verdict.blocked
    assert all(model.step(state, each) is ILLEGAL for each in verdict.blocked)
    assert len(verdict.explain().splitlines()) <= 20


def assert_longest(verdict, history, model):
    split = [(key, each) for op in history for key, each in [model.split(op)]]
    operations = [part for key, parts in split if key == verdict.key for part in parts]
    explained = sum(each.returned is not None for each in verdict.prefix)
    assert explained == most_explained(model, operations)


@pytest.mark.parametrize("name", CASES)
def test_random_histories_get_the_verdict_of_brute_force(name):
    model, operations, size = CASES[name]
    verdicts = Counter()
    for seed in range(1000):
        history = random_history(random.Random(seed), model, operations, size)
        verdict = check_linearizable(history, model)
        assert isinstance(verdict, Ok) == brute_force(history, model), (seed, history)
        if isinstance(verdict, Ok):
            assert_proof(verdict, history, model)
        else:
            assert_stuck(verdict, model)
            assert_longest(verdict, history, model)
        verdicts[type(verdict)] += 1
    assert verdicts[Ok] > 150
    assert verdicts[Violation] > 150


@pytest.mark.parametrize(
    ("name", "linearizable"),
    [
        *[("000", False), ("001", False), ("003", False)],
        *[("002", True), ("005", True), ("007", True)],
    ],
)
def test_etcd_histories_get_their_published_verdict(name, linearizable):
    lines = (LOGS / f"etcd_{name}.log").read_text().splitlines()
    verdict = check_linearizable(history_in(lines), RegisterModel())
    assert isinstance(verdict, Ok if linearizable else Violation)


# --- verdicts -------------------------------------------------------------


def recorded(*events):
    """A history from `(process, op, args..., result)`, one after the other."""
    history = History()
    for process, op, *args, result in events:
        history.ok(history.invoke(process, op, *args), result)
    return history


def test_a_violation_explains_itself():
    history = History()
    slow = history.invoke("a", "write", 2)
    for value in range(8):
        history.ok(history.invoke("b", "write", value))
    read = history.invoke("c", "read")
    history.invoke("d", "write", 5)
    history.ok(read, 9)
    history.ok(slow)
    verdict = check_linearizable(history, RegisterModel())
    assert isinstance(verdict, Violation)
    assert verdict.explain() == (
        "not linearizable: 9 of 11 operations can be put in order, then none fits\n"
        "  ... 3 earlier\n"
        "  b write(3) -> None  [7, 8]\n"
        "  b write(4) -> None  [9, 10]\n"
        "  b write(5) -> None  [11, 12]\n"
        "  b write(6) -> None  [13, 14]\n"
        "  b write(7) -> None  [15, 16]\n"
        "  a write(2) -> None  [0, 20]\n"
        "state: 2\n"
        "one of these must be next, and none can give its result there:\n"
        "  c read() -> 9  [17, 19]"
    )


def test_an_explanation_stays_short_with_long_values_and_many_operations():
    history = History()
    history.ok(history.invoke("a", "write", "x" * 500))
    calls = [history.invoke(i, "read") for i in range(50)]
    for call in calls:
        history.ok(call, "y" * 500)
    verdict = check_linearizable(history, RegisterModel())
    lines = verdict.explain().splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 110
    assert lines[-1] == "  ... 41 more"


def test_a_violation_names_its_partition():
    history = recorded(
        ("a", "put", "x", 1, None), ("a", "put", "y", 1, None), ("a", "get", "y", 2)
    )
    verdict = check_linearizable(history, KVModel())
    assert isinstance(verdict, Violation)
    assert (verdict.key, verdict.operations) == ("y", 2)
    assert "1 of 2 operations of 'y'" in verdict.explain()


def test_a_cheap_violation_is_found_before_an_expensive_proof():
    history = History()
    hard = [history.invoke(i, "append", "hard", str(i)) for i in range(9)]
    for call in hard:
        history.ok(call)
    history.ok(history.invoke("z", "get", "hard"), "nobody wrote this")
    history.ok(history.invoke("z", "get", "cheap"), "nor this")
    verdict = check_linearizable(history, KVModel())
    assert isinstance(verdict, Violation)
    assert verdict.key == "cheap"
    assert verdict.states <= 2_000


def test_the_budget_ends_undecided():
    history = History()
    calls = [history.invoke(i, "put", i) for i in range(8)]
    for call in calls:
        history.ok(call)
    history.ok(history.invoke("a", "get"), "nobody put this")
    assert isinstance(check_linearizable(history, QueueModel()), Violation)
    verdict = check_linearizable(history, QueueModel(), max_states=5_000)
    assert isinstance(verdict, Undecided)
    assert verdict.states == 5_000
    assert verdict.keys == (None,)
    assert verdict.explain() == (
        "undecided: 5000 states explored, 1 partition(s) open; "
        "raise max_states or record less"
    )


def test_an_empty_history_is_linearizable():
    verdict = check_linearizable(History(), RegisterModel())
    assert verdict == Ok(linearizations=(), states=0)
    assert verdict.explain() == "linearizable: 0 operations, 0 states explored"


def test_many_pending_operations_cost_little():
    history = History()
    for i in range(400):
        history.invoke(f"gone {i}", "read")
        if i % 20 == 0:
            history.invoke(f"lost {i}", "write", i)
        history.ok(history.invoke("a", "write", -i))
        history.ok(history.invoke("a", "read"), -i)
    verdict = check_linearizable(history, RegisterModel())
    assert isinstance(verdict, Ok)
    assert verdict.states < 2_000


def test_a_pending_operation_may_take_effect_long_after_its_client_went_on():
    history = History()
    history.invoke("a", "write", 1)
    history.ok(history.invoke("a", "read"), None)
    history.ok(history.invoke("a", "read"), 1)
    assert isinstance(check_linearizable(history, RegisterModel()), Ok)
    history.ok(history.invoke("a", "read"), None)
    assert isinstance(check_linearizable(history, RegisterModel()), Violation)


def test_a_long_queue_does_not_make_the_order_of_its_puts_a_guess():
    rng = random.Random(7)
    history, queue = History(), []
    for number in range(400):
        puts = [(history.invoke(i, "put", (number, i)), (number, i)) for i in range(4)]
        rng.shuffle(puts)
        queue += [item for _, item in puts]
        rng.shuffle(puts)
        for call, _ in puts:
            history.ok(call)
        if number >= 100:
            gets = [(history.invoke(i, "get"), queue.pop(0)) for i in range(4)]
            rng.shuffle(gets)
            for call, item in gets:
                history.ok(call, item)
    verdict = check_linearizable(history, QueueModel())
    assert isinstance(verdict, Ok), verdict.explain()
    assert verdict.states < 20_000


# --- models of one's own --------------------------------------------------


def count(state, operation):
    if operation.op == "increment":
        return state + 1
    return state if operation.result == state else ILLEGAL


def test_a_function_is_a_model():
    counter = Model(count, initial=0, pure=lambda operation: operation.op == "read")
    right = recorded(
        ("a", "increment", None), ("b", "increment", None), ("a", "read", 2)
    )
    wrong = recorded(
        ("a", "increment", None), ("b", "increment", None), ("a", "read", 1)
    )
    assert isinstance(check_linearizable(right, counter), Ok)
    assert isinstance(check_linearizable(wrong, counter), Violation)


def test_a_wrong_claim_of_purity_is_caught():
    careless = Model(count, initial=0, pure=lambda operation: True)
    history = recorded(("a", "increment", None))
    with pytest.raises(
        ValueError, match=r"calls a increment.* pure, but it turns 0 into 1"
    ):
        check_linearizable(history, careless)


def test_keyed_objects_have_a_state_each():
    locks = LockModel().keyed()
    history = recorded(("a", "acquire", "x", True), ("b", "acquire", "y", True))
    assert isinstance(check_linearizable(history, locks), Ok)
    history.ok(history.invoke("c", "acquire", "x", "shared"))
    verdict = check_linearizable(history, locks)
    assert isinstance(verdict, Violation)
    assert verdict.key == "x"


def test_keyed_models_may_be_partitioned_again_and_have_parts():
    stores = KVModel().keyed()
    history = recorded(("a", "put", 1, "x", 5, None), ("a", "get", 2, "x", None))
    assert isinstance(check_linearizable(history, stores), Ok)
    history.ok(history.invoke("a", "get", 1, "x"))
    verdict = check_linearizable(history, stores)
    assert isinstance(verdict, Violation)
    assert verdict.key == (1, "x")
    alone = recorded(("a", "wait", "gate", None))
    assert isinstance(check_linearizable(alone, BarrierModel(1).keyed()), Ok)
    assert isinstance(check_linearizable(alone, BarrierModel(2).keyed()), Violation)


@pytest.mark.parametrize(
    "model",
    [
        RegisterModel(),
        KVModel(),
        LockModel(),
        SemaphoreModel(1),
        QueueModel(),
        BarrierModel(1),
    ],
)
def test_a_model_says_which_operations_it_knows(model):
    with pytest.raises(ValueError, match=r"no operation a fly\('x'\).*it knows"):
        check_linearizable(recorded(("a", "fly", "x", None)), model)


def test_operations_may_come_in_any_order():
    operations = recorded(
        ("a", "write", 1, None), ("a", "read", 1), ("a", "read", 1)
    ).operations
    for shuffled in itertools.permutations(operations):
        assert isinstance(check_linearizable(shuffled, RegisterModel()), Ok)

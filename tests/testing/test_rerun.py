"""From a recorded run to a test that fails when its failure comes back."""

import ast
import asyncio
import enum
import subprocess
import sys
from pathlib import Path

import attrs
import orjson
import pytest

from swarm import Agent, Closed, InvalidValue, Swarm, SwarmConfig, correlated, event
from swarm.cli import main as command
from swarm.testing import Rerun, explore, load_run_file, source_of_test
from tests.support.virtual_loop import virtual

PROGRAM = """
import asyncio

from swarm import Agent, Swarm, event


@event("bank.opened")
class Opened:
    branch: str


class Teller(Agent):
    def __init__(self, branch: str) -> None:
        self.branch = branch

    async def deposit(self, amount: int) -> int:
        balance = await self.shared.get("balance", default=0)
        await asyncio.sleep(0.001)
        await self.shared.set("balance", balance + amount)
        return balance + amount


async def main() -> None:
    async with Swarm("bank") as swarm:
        swarm.record("run.jsonl")
        await swarm.state.set("shared.balance", 5)
        await swarm.events.publish(Opened("north"))
        ada = await swarm.spawn(Teller, "north", name="ada")
        bob = await swarm.spawn(Teller, "south", name="bob")
        await asyncio.gather(
            ada.ask(Teller.deposit, 10), bob.ask(Teller.deposit, amount=20)
        )
        assert await swarm.state.get("shared.balance") == 35, "money is lost"


if __name__ == "__main__":
    asyncio.run(main())
"""

FIX = (
    """        balance = await self.shared.get("balance", default=0)
        await asyncio.sleep(0.001)
        await self.shared.set("balance", balance + amount)
        return balance + amount
""",
    """        return await self.shared.update("balance", lambda b: (b or 0) + amount)
""",
)


@pytest.mark.timeout(180)  # four processes
def test_a_real_race_becomes_a_test_that_fails_and_shrinks_until_it_is_fixed(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    program = tmp_path / "bank.py"
    program.write_text(PROGRAM)
    failed = run("bank.py")
    assert "money is lost" in failed.stderr
    made = run("-m", "swarm", "replay", "run.jsonl", "--as-test")
    assert made.returncode == 0, made.stderr
    test = (tmp_path / "test_run.py").read_text()
    assert "run.step(6, after=[4]).ask('bob', Teller.deposit, amount=20)" in test
    assert "Not recorded, so not repeated: what agents get from elsewhere" in test
    pytest_run = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_run.py")
    broken = run(*pytest_run)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "the recorded failure has come back" in broken.stdout
    assert "also happens on the stock order" in broken.stdout  # shrunk to no deviation
    assert "--swarm-replay=" in broken.stdout
    program.write_text(PROGRAM.replace(*FIX))
    fixed = run(*pytest_run, "--swarm-schedules=50")
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr


# --- what is recorded -----------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


@attrs.frozen
class Order:
    number: int
    tags: tuple[str, ...] = ()


@event("shop.sold")
class Sold:
    order: Order


class Clerk(Agent):
    async def sell(self, order, *more, color=None, other=None):
        await self.swarm.events.publish(Sold(order))
        if other is not None:
            await other.ask(Clerk.sell, order)
        return order

    async def echo(self, value):
        return value

    async def hold(self, name):
        await self.swarm.lock(name).acquire(ttl=1, renew=False)
        await asyncio.sleep(2)

    async def fail(self, text="broken"):
        raise ValueError(text)


def lines(path, what=None):
    found = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [line for line in found if what in (None, line["do"])]


@virtual
async def test_only_what_the_program_asks_is_an_input(tmp_path):
    path = tmp_path / "run.jsonl"
    async with Swarm("shop") as swarm:
        swarm.record(path)
        ada = await swarm.spawn(Clerk, name="ada")
        bob = await swarm.spawn(Clerk, name="bob")
        await swarm.events.on(Sold, lambda event: None)
        with correlated("request-1"):
            await ada.ask(Clerk.sell, Order(1), other=bob)
        await ada.tell(Clerk.sell, Order(2))
        await swarm.tasks.submit("pack", {"order": 1}, max_retries=0)
        await swarm.state.set("shared.note", "x")
        await swarm.state.delete("shared.note")
        await swarm.events.publish(Sold(Order(3)))
    recorded = [line["do"] for line in lines(path) if "n" in line]
    assert [what for what in recorded if what != "end"] == [
        "spawn",
        "spawn",
        "ask",
        "tell",
        "submit",
        "set",
        "delete",
        "publish",
    ]
    assert [line["method"] for line in lines(path, "turn")] == ["Clerk.sell"] * 3
    (submit,) = lines(path, "submit")
    assert (submit["kind"], submit["options"]) == ("pack", {"max_retries": 0})
    (ended,) = lines(path, "ended")
    assert ended["error"] is None


@virtual
async def test_a_run_that_ended_well_is_no_test(tmp_path):
    path = tmp_path / "run.jsonl"
    async with Swarm("shop") as swarm:
        swarm.record(path)
        await swarm.spawn(Clerk)
    with pytest.raises(InvalidValue, match="the recorded run did not fail"):
        source_of_test(load_run_file(path), "run.jsonl")


@virtual
async def test_a_recording_is_stopped_by_hand_or_as_a_block(tmp_path):
    async with Swarm("shop") as swarm:
        recording = swarm.record(tmp_path / "one.jsonl")
        ada = await swarm.spawn(Clerk, name="ada")
        recording.stop()
        recording.stop()
        assert swarm._coordinator.is_direct
        with pytest.raises(KeyError), swarm.record(tmp_path / "two.jsonl"):
            await ada.ask(Clerk.sell, Order(1))
            raise KeyError("other")
        await ada.ask(Clerk.sell, Order(2))
    assert [line["do"] for line in lines(tmp_path / "one.jsonl")] == [
        "recording",
        "spawn",
        "end",
        "ended",
    ]
    assert len(lines(tmp_path / "two.jsonl", "ask")) == 1
    assert lines(tmp_path / "two.jsonl", "ended")[0]["error"]["message"] == "'other'"


async def test_a_recording_is_for_its_user_only(tmp_path):
    path = tmp_path / "run.jsonl"
    async with Swarm("shop") as swarm:
        swarm.record(path)
        assert path.stat().st_mode & 0o777 == 0o600


async def test_a_swarm_that_is_not_open_records_nothing(tmp_path):
    with pytest.raises(Closed, match="not open"):
        Swarm().record(tmp_path / "run.jsonl")


# --- the test that is written ---------------------------------------------------------


async def written(path, program, config=None):
    """Return the test of a run that fails, made by `program`."""
    with pytest.raises((Exception, BaseExceptionGroup)):
        async with Swarm("shop", config=config) as swarm:
            swarm.record(path)
            await program(swarm)
    return source_of_test(load_run_file(path), path.name)


@virtual
async def test_values_are_written_as_code(tmp_path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        await ada.ask(
            Clerk.sell, Order(7, ("new",)), (1, "a"), {2: 1.5}, color=Color.RED
        )
        await ada.ask(Clerk.fail)

    text = await written(tmp_path / "run.jsonl", program)
    expected = (
        ".ask('ada', Clerk.sell, Order(number=7, tags=tuple(['new'])), "
        "tuple([1, 'a']), dict([[2, 1.5]]), color=Color['RED'])"
    )
    assert expected in text
    module = __name__
    assert f"from {module} import Clerk, Color, Order" in text
    compile(text, "test", "exec")


@virtual
async def test_an_error_that_reached_the_program_fails_the_test_again(tmp_path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        with pytest.raises(ValueError, match="handled"):
            await ada.ask(Clerk.fail, "handled")
        await ada.ask(Clerk.fail)

    text = await written(tmp_path / "run.jsonl", program)
    assert "run.step(2, after=[1], may_raise=ValueError).ask('ada'" in text
    assert "run.step(3, after=[2]).ask('ada', Clerk.fail)" in text
    assert "await run.play()  # raises ValueError when step 3 does, as recorded" in text


@virtual
async def test_a_failure_of_an_agent_fails_the_test_again(tmp_path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        await ada.tell(Clerk.fail)
        await asyncio.sleep(3600)

    text = await written(tmp_path / "run.jsonl", program)
    assert "await run.play()  # raises ValueError when an agent does" in text


@virtual
async def test_a_lock_that_expired_may_expire_again(tmp_path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        await swarm.lock("mine").acquire(ttl=1)
        await ada.ask(Clerk.hold, "till")
        await ada.ask(Clerk.fail)

    text = await written(tmp_path / "run.jsonl", program)
    assert "@simulate(schedules=1000, faults=Faults(expire=['till']))" in text
    assert "from swarm.testing import Faults, Rerun, simulate" in text


@virtual
async def test_pauses_and_settings_are_kept(tmp_path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        await asyncio.sleep(2)
        await ada.ask(Clerk.fail)

    config = SwarmConfig(ask_timeout=5)
    text = await written(tmp_path / "run.jsonl", program, config)
    assert "run = Rerun(config=SwarmConfig(ask_timeout=5))" in text
    assert "run.step(2, after=[1], pause=2.0).ask(" in text


@virtual
async def test_an_input_that_cannot_be_written_is_named(tmp_path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        await ada.ask(Clerk.fail, object())

    with pytest.raises(
        InvalidValue, match="input 2: a builtins:object is not recorded"
    ):
        await written(tmp_path / "run.jsonl", program)

    class Local(Clerk):
        pass

    async def other(swarm):
        ada = await swarm.spawn(Local, name="ada")
        await ada.ask(Local.fail)

    with pytest.raises(InvalidValue, match="define it at the top of a module"):
        await written(tmp_path / "run.jsonl", other)


@virtual
async def test_an_error_of_the_program_that_left_no_sign_is_no_test(tmp_path):
    async def program(swarm):
        await swarm.spawn(Clerk, name="ada")
        raise KeyError("mine")

    with pytest.raises(InvalidValue, match="KeyError of its own, and nothing"):
        await written(tmp_path / "run.jsonl", program)


HOSTILE = [
    {
        "do": "recording",
        "t": 0,
        "version": 1,
        "swarm": "x",
        "python": "3",
        "config": {},
    },
    {
        "do": "turn",
        "t": 0,
        "agent": "a\nimport os; os.abort()",
        "method": '"""\nimport os',
    },
    {
        "do": "spawn",
        "t": 0,
        "n": 1,
        "task": 1,
        "factory": {"$": "name", "of": "os:abort"},
        "args": [],
        "options": {},
    },
    {
        "do": "ended",
        "t": 1,
        "error": {
            "class": 'x:A"""\nimport os\nos.abort()\n"""',
            "message": '"""\nimport os\nos.abort()',
        },
        "failures": [],
        "state": {"shared.x": '"""\nimport os\nos.abort()'},
    },
]


def test_text_of_a_recording_never_becomes_code(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, HOSTILE)))
    text = source_of_test(load_run_file(path), 'a"""\nimport os.jsonl')
    body = ast.parse(text).body
    assert [type(each).__name__ for each in body] == [
        "Expr",  # the docstring
        "ImportFrom",
        "ImportFrom",
        "AsyncFunctionDef",
    ]
    compile(text, "test", "exec")
    hostile = [*HOSTILE]
    hostile[2] = {**HOSTILE[2], "options": {"a=1); import os; f(b": 1}}
    path.write_bytes(b"\n".join(map(orjson.dumps, hostile)))
    with pytest.raises(InvalidValue, match="is no name of an argument"):
        source_of_test(load_run_file(path), "run")
    hostile[2] = {**HOSTILE[2], "factory": {"$": "name", "of": "os:abort() or x"}}
    path.write_bytes(b"\n".join(map(orjson.dumps, hostile)))
    with pytest.raises(InvalidValue, match="cannot be imported"):
        source_of_test(load_run_file(path), "run")
    hostile[2] = {**HOSTILE[2], "n": "1); import os; f("}
    path.write_bytes(b"\n".join(map(orjson.dumps, hostile)))
    with pytest.raises(InvalidValue, match="3 is no line of a recording"):
        load_run_file(path)
    hostile[2] = {key: HOSTILE[2][key] for key in HOSTILE[2] if key != "options"}
    path.write_bytes(b"\n".join(map(orjson.dumps, hostile)))
    with pytest.raises(InvalidValue, match="is damaged: KeyError"):
        source_of_test(load_run_file(path), "run")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no recording of version 1"),
        (b"[]", "run.jsonl:1 is no line of a recording"),
        (b"{", "run.jsonl:1 is no JSON"),
        (b'{"do":"recording","version":99}', "is no recording of version 1"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, content, problem):
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidValue, match=problem):
        load_run_file(path)


# --- the rerun ------------------------------------------------------------------------


@virtual
async def test_steps_begin_after_those_they_come_after_and_a_pause():
    run = Rerun()
    run.step(1).spawn(Clerk, name="ada")
    run.step(2, after=[1], pause=3).ask("ada", Clerk.echo, run.ref("ada"))
    run.step(3, after=[1], may_raise=ValueError).ask("ada", Clerk.fail)
    run.step(4, after=[2]).set("shared.x", 1)
    run.step(5).publish(Sold(Order(1)))
    run.step(6, after=[1]).submit("pack", {"a": 1}, max_retries=0)
    run.step(7, after=[1]).tell("ada", Clerk.sell, Order(2))
    run.step(8, after=[4]).set("shared.y", 1)
    run.step(9, after=[8]).delete("shared.y")
    began = asyncio.get_running_loop().time()
    outcome = await run.play(pause=1)
    assert asyncio.get_running_loop().time() - began >= 4
    assert outcome.state == {"shared.x": 1}
    assert outcome.results[2].name == "ada"
    assert isinstance(outcome.results[3], ValueError)


@virtual
async def test_the_first_error_of_a_step_is_raised_as_it_is():
    run = Rerun()
    run.step(1).spawn(Clerk, name="ada")
    run.step(2, after=[1]).ask("ada", Clerk.fail, "first")
    run.step(3, after=[2]).ask("ada", Clerk.fail, "second")
    with pytest.raises(ValueError, match="first"):
        await run.play()


def test_steps_are_checked():
    run = Rerun()
    run.step(1)
    with pytest.raises(ValueError, match="step 1 is there already"):
        run.step(1)
    with pytest.raises(ValueError, match="step 2 comes after 7, which is not there"):
        run.step(2, after=[7])


def test_a_recording_is_made_in_a_simulation_as_well(tmp_path):
    path = tmp_path / "run.jsonl"

    async def program():
        async with Swarm() as swarm:
            swarm.record(path)
            ada = await swarm.spawn(Clerk, name="ada")
            await ada.ask(Clerk.sell, Order(1))

    assert explore(program, schedules=5).failure is None
    assert len(lines(path, "ask")) == 1


# --- the command ----------------------------------------------------------------------


@virtual
async def _fail(path):
    async def program(swarm):
        ada = await swarm.spawn(Clerk, name="ada")
        await ada.ask(Clerk.fail)

    await written(path, program)


def test_the_command_shows_a_run_and_writes_a_test(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _fail(Path("run.jsonl"))
    assert command(["replay", "run.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert "ask ada Clerk.fail  after 1" in shown
    assert "ended by ValueError: broken" in shown
    assert command(["replay", "run.jsonl", "--as-test", "-o", "-"]) == 0
    assert "@simulate(schedules=1000)" in capsys.readouterr().out
    assert command(["replay", "run.jsonl", "--as-test"]) == 0
    assert command(["replay", "run.jsonl", "--as-test"]) == 1
    assert "test_run.py is there; --force replaces it" in capsys.readouterr().err
    assert command(["replay", "run.jsonl", "--as-test", "--force"]) == 0
    assert command(["replay", "none.jsonl"]) == 1
    assert "none.jsonl" in capsys.readouterr().err

"""The shape of pipelines, what follows from tasks, and how both are drawn."""

from itertools import pairwise

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import InvalidTransition, NotFound
from swarm.model import to_datetime
from swarm.work._task_record import RecordEntry, TaskRecord, TaskSpec, TaskStatus
from swarm.work.pipelines import _rules as rules
from swarm.work.pipelines._definition import Pipeline, Stage
from swarm.work.pipelines._drawing import draw_mermaid, draw_text
from swarm.work.pipelines._graph import (
    MAPPED,
    RunRecord,
    StageShape,
    StageTask,
    derive,
    items_of,
    ordered,
    run_output,
    run_status,
)
from tests.work.passage.views import ADA, DictView


async def take(value):
    return value


class Writer:
    async def write(self, facts: list) -> str:
        return str(facts)

    async def count(self, text: int) -> int:
        return text


def line(*names: str, **options) -> tuple[StageShape, ...]:
    before: tuple[str, ...] = ()
    shapes = []
    for name in names:
        shapes.append(StageShape(name=name, after=before, **options))
        before = (name,)
    return tuple(shapes)


def made(status: str, *, result=None, started=0, ended=0, error="") -> TaskRecord:
    """Return a task of a stage that began and ended at these times."""
    history = [RecordEntry("claim", "running", started)] if started else []
    if ended or error:
        step = "complete" if status == "complete" else "fail"
        history.append(RecordEntry(step, status, ended, reason=error))
    return TaskRecord(
        TaskSpec("t", "pipeline.p.s"),
        TaskStatus(status),
        1,
        1,
        result=result,
        steps=tuple(history),
    )


def done(result: object = None) -> TaskRecord:
    return made("complete", result=orjson.dumps(result), started=1, ended=2)


# --- shape -----------------------------------------------------------------------


@st.composite
def graphs(draw, *, acyclic: bool):
    """Stages, each after some of the others; in any order of definition."""
    names = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True))
    shapes = []
    for n, name in enumerate(names):
        choices = names[:n] if acyclic else names
        after = draw(st.lists(st.sampled_from(choices), unique=True)) if choices else []
        shapes.append(StageShape(name=name, after=tuple(after)))
    return draw(st.permutations(shapes))


@given(graphs(acyclic=True))
def test_stages_are_ordered_after_what_they_depend_on(shapes):
    order = [stage.name for stage in ordered(shapes)]
    assert sorted(order) == sorted(stage.name for stage in shapes)
    for stage in shapes:
        assert all(order.index(b) < order.index(stage.name) for b in stage.after)


@given(graphs(acyclic=False))
def test_a_cycle_is_found_exactly_when_there_is_one(shapes):
    left = {stage.name: set(stage.after) for stage in shapes}
    while free := [name for name, after in left.items() if not after & left.keys()]:
        for name in free:
            del left[name]
    if not left:
        assert len(ordered(shapes)) == len(shapes)
        return
    with pytest.raises(ValueError, match="the stages form a cycle: ") as caught:
        ordered(shapes)
    cycle = str(caught.value).removeprefix("the stages form a cycle: ").split(" -> ")
    after = {stage.name: stage.after for stage in shapes}
    assert cycle[0] == cycle[-1]
    assert all(a in after[b] for a, b in pairwise(cycle))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ((), "at least one stage"),
        (line("a", "a"), "two stages are called 'a'"),
        ((StageShape(name="a", after=("b",)),), "comes after 'b', which is not"),
        ((StageShape(name="a", after=("a",)),), "cycle: a -> a"),
        (
            (
                *line("a"),
                StageShape(name="b"),
                StageShape(name="c", after=("a", "b"), map=True),
            ),
            "map takes one list",
        ),
    ],
)
def test_a_bad_shape_is_one_clear_error(shapes, message):
    with pytest.raises(ValueError, match=message):
        ordered(shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a:b"}, "the name of a stage is letters, digits"),
        ({"name": ""}, "the name of a stage is letters, digits"),
        ({"concurrency": 0}, "concurrency is 1 or more"),
        ({"max_retries": -1}, "max_retries is 0 or more"),
        ({"max_retries": 10**20}, "max_retries is 1000000000 or less"),
        ({"timeout": 0}, "timeout is from 0.000001 to"),
    ],
)
def test_a_stage_that_means_nothing_is_refused_where_it_is_defined(options, message):
    with pytest.raises(ValueError, match=message):
        Stage(**{"name": "a", "function": Writer.write, **options})


def test_the_name_of_a_stage_is_text():
    with pytest.raises(TypeError, match="the name of a stage is text, not 3"):
        Stage(3, take)


# --- definitions -------------------------------------------------------------------


def test_stages_form_a_line_unless_told_otherwise():
    flow = Pipeline(
        "f", [Stage("a", take), Stage("b", take), Stage("c", take, after=[])]
    )
    after = {shape.name: shape.after for shape in flow.shapes}
    assert after == {"a": (), "b": ("a",), "c": ()}


def test_a_stage_after_several_gets_each_output_by_name():
    async def join(left, right):
        return left, right

    async def other(left):
        return left

    roots = [Stage("left", take), Stage("right", take, after=[])]
    Pipeline("f", [*roots, Stage("join", join, after=["left", "right"])])
    with pytest.raises(TypeError, match="gets the outputs of left, right by name"):
        Pipeline("f", [*roots, Stage("join", other, after=["left", "right"])])


def test_a_function_that_takes_no_argument_is_refused():
    async def nothing():
        return None

    with pytest.raises(TypeError, match="stage 'a' gets one argument"):
        Pipeline("f", [Stage("a", nothing)])


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: Stage("a", take, after="b"), "`after` is a list of names, not 'b'"),
        (lambda: Stage("a", take, after=3), "`after` is a list of names, not 3"),
        (lambda: Pipeline("f", 3), "made of a list of Stage, not 3"),
        (lambda: Pipeline("f", Stage("a", take)), "made of a list of Stage"),
        (lambda: Pipeline("f", ["a"]), "made of a list of Stage"),
        (lambda: Pipeline("f", [Stage("a", take, backoff=3)]), "backoff is a Backoff"),
        (lambda: Pipeline("f", [Stage("a", take, map="yes")]), "map is True or False"),
    ],
)
def test_an_argument_of_a_wrong_type_is_one_clear_error(define, message):
    with pytest.raises(TypeError, match=message):
        define()


def test_a_function_that_is_not_async_is_refused():
    with pytest.raises(TypeError, match="needs an async function"):
        Stage("a", len)


def test_arguments_become_what_their_annotations_name():
    async def one(facts: list[str]) -> int:
        return len(facts)

    async def two(left: int | str, *, right: float):
        return left, right

    stage = Stage("one", one)
    assert stage.typed([["a"]], {}) == ((["a"],), {})
    with pytest.raises(TypeError, match=r"stage 'one': facts: str expected, not int"):
        stage.typed([[1]], {})
    assert Stage("two", two).typed([], {"left": "x", "right": 1}) == (
        ("x",),
        {"right": 1.0},
    )


def test_an_argument_that_does_not_fit_is_told_by_its_place():
    @attrs.frozen
    class Draft:
        title: str
        tags: list[str]

    async def edit(draft: Draft) -> Draft:
        return draft

    edit.__annotations__["draft"] = Draft
    stage = Stage("edit", edit)
    with pytest.raises(TypeError, match=r"is missing @ \$.title"):
        stage.typed([{"tags": []}], {})
    with pytest.raises(TypeError, match=r"an array expected, not str @ \$.tags"):
        stage.typed([{"title": "bees", "tags": "ab"}], {})


def test_what_is_no_stage_or_no_method_is_refused_where_one_is_meant():
    with pytest.raises(TypeError, match="made of a list of Stage"):
        Pipeline("f", [take])
    with pytest.raises(ValueError, match="is for a method of agents, and take is"):
        Stage("a", take, agent="bo")
    assert not Stage("a", Writer().write).is_method


def test_arguments_that_are_gathered_have_the_type_of_each():
    async def join(**outputs: int):
        return outputs

    async def several(*values: float):
        return values

    assert Stage("join", join).typed([], {"a": 1, "b": 2}) == ((), {"a": 1, "b": 2})
    with pytest.raises(TypeError, match="stage 'join': outputs: int expected, not str"):
        Stage("join", join).typed([], {"a": "1"})
    assert Stage("several", several).typed([1], {}) == ((1.0,), {})


def test_a_stage_that_is_not_there_is_not_found():
    """P2."""
    flow = Pipeline("f", [Stage("a", take)])
    with pytest.raises(NotFound, match="no stage 'b'"):
        flow.stage("b")


# --- derived status ------------------------------------------------------------------

STATUSES = ("pending", "running", "complete", "failed", "cancelled")


class Run:
    """A run as a model: tasks are begun when allowed, and end in any way."""

    def __init__(self, shapes, given):
        self.shapes = ordered(shapes)
        self.given = given
        self.tasks: dict[StageTask, TaskRecord] = {}
        self.cancelled = False
        self.clock = 1

    def begin(self):
        """Begin the first task that is missing, of each stage that may begin."""
        progress = self.progress()
        new = []
        for stage in self.shapes:
            before = [progress[name] for name in stage.after]
            if self.cancelled or any(b.status != "completed" for b in before):
                continue
            items = items_of(stage, before[0].output if before else self.given)
            places = [None] if items is None else range(len(items))
            keys = [StageTask(stage.name, place) for place in places]
            new += [key for key in keys if key not in self.tasks][:1]
        self.tasks.update((key, made(status="pending")) for key in new)
        return new

    def progress(self):
        find = self.tasks.get
        return derive(self.shapes, find, self.given, cancelled=self.cancelled)

    def open(self):
        over = ("complete", "failed", "cancelled")
        return [key for key, task in self.tasks.items() if task.status not in over]

    def move(self, key, status, result):
        task = self.tasks[key]
        if task.status in ("complete", "failed", "cancelled"):
            return
        self.clock += 1
        self.tasks[key] = made(
            status=status,
            result=orjson.dumps(result) if status == "complete" else None,
            started=self.clock if status == "running" else 0,
            ended=self.clock if status in ("complete", "failed", "cancelled") else 0,
            error="boom" if status == "failed" else "",
        )


@settings(deadline=None)
@given(graphs(acyclic=True), st.data())
def test_outputs_never_change_and_a_run_ends(shapes, data):
    """P1, P4, P5, P8: whatever the tasks do."""
    shapes = [attrs.evolve(s, map=len(s.after) < 2, concurrency=2) for s in shapes]
    run = Run(shapes, data.draw(st.lists(st.integers(0, 9), max_size=4), label="given"))
    outputs: dict[str, object] = {}
    for _ in range(data.draw(st.integers(0, 30))):
        run.begin()
        if run.open():
            key = data.draw(st.sampled_from(run.open()))
            status = data.draw(st.sampled_from(STATUSES))
            result = data.draw(st.lists(st.integers(0, 9), max_size=3))
            run.move(key, status, result)
        if data.draw(st.integers(0, 9)) == 9:
            run.cancelled = True
        progress = run.progress()
        for name, output in outputs.items():
            assert progress[name].output == output
        outputs = {
            n: each.output for n, each in progress.items() if each.status == "completed"
        }
        for each in progress.values():
            if each.status != "completed":
                with pytest.raises(InvalidTransition, match="has no output"):
                    _ = each.output  # P6
    while run.begin() or _finish_all(run):
        pass
    status = run_status(run.progress(), cancelled=run.cancelled)
    assert status != "running"


def _finish_all(run) -> bool:
    left = run.open()
    for key in left:
        run.move(key, "complete", [1, 2])
    return bool(left)


def in_run(tasks):
    """Return what finds the tasks of stages, as lists by name: of items if several."""

    def find(task):
        mine = tasks.get(task.stage, ())
        place = task.item or 0
        return mine[place] if place < len(mine) else None

    return find


def test_a_failed_stage_skips_what_comes_after_it_and_nothing_else():
    shapes = (*line("a", "b", "c"), StageShape(name="d"))
    tasks = {"a": [made(status="failed", error="boom")], "d": [done()]}
    progress = derive(shapes, in_run(tasks), None)
    assert {n: p.status for n, p in progress.items()} == {
        "a": "failed",
        "b": "skipped",
        "c": "skipped",
        "d": "completed",
    }
    assert run_status(progress) == "failed"
    assert progress["a"].error == "boom"


def test_an_empty_list_is_mapped_at_once():
    shapes = line("a", "b", map=True)
    progress = derive(shapes, in_run({}), [])
    assert progress["b"].output == []
    assert run_status(progress) == "completed"


def test_cancelling_does_not_take_back_an_empty_output():
    """P4."""
    shapes = (*line("a", map=True), StageShape(name="b", after=("a",)))
    progress = derive(shapes, in_run({"b": [done("b")]}), [], cancelled=True)
    assert progress["b"].output == "b"


def test_no_stage_begins_once_the_run_is_cancelled():
    """P8: whoever drives the run, and has not heard of it."""
    view = DictView()
    record = RunRecord(id="r", name="f", stages=line("a", "b"), given=1, requester=ADA)
    view.apply(rules.start(view, record))
    assert view.apply(rules.begin(view, "r", StageTask("a"))) == "r:a"
    view.apply(rules.cancel(view, "r", "ada", "why"))
    plan = rules.begin(view, "r", StageTask("b"))
    assert (list(plan.writes), plan.outcome) == ([], None)
    again = rules.begin(view, "r", StageTask("a"))
    assert (list(again.writes), again.outcome) == ([], "r:a")


def test_what_cannot_be_mapped_is_given_whole():
    (shape,) = line("a", map=True)
    for value in ("text", {"k": 1}, [0] * (MAPPED + 1)):
        assert items_of(shape, value) is None
    assert items_of(shape, [0] * MAPPED) == [0] * MAPPED


def test_a_stage_of_which_an_item_is_missing_is_running():
    shapes = line("a", map=True)
    find = {StageTask("a", 0): done(1), StageTask("a", 2): done(3)}.get
    each = derive(shapes, find, [1, 2, 3])["a"]
    assert (each.status, each.tasks, each.of) == ("running", 2, 3)


def test_the_output_is_that_of_the_last_stages():
    shapes = line("a", "b")
    tasks = {"a": [done(1)], "b": [done(2)]}
    assert run_output(shapes, derive(shapes, in_run(tasks), None)) == 2
    shapes = (StageShape(name="a"), StageShape(name="b"))
    assert run_output(shapes, derive(shapes, in_run(tasks), None)) == {"a": 1, "b": 2}


# --- drawings ----------------------------------------------------------------------


def test_a_definition_is_drawn():
    flow = Pipeline(
        "content",
        [
            Stage("research", Writer.write),
            Stage("check", take, map=True, concurrency=2),
            Stage("write", Writer.write, agent="bo"),
        ],
    )
    assert flow.text() == (
        "content\n"
        "  research  Writer.write  first\n"
        "  check     take          after research  for each item, 2 at a time\n"
        "  write     Writer.write  after check     by agent bo"
    )
    assert flow.mermaid() == (
        "flowchart LR\n"
        '    s0["research<br/>Writer.write"]\n'
        '    s1[["check<br/>take"]]\n'
        '    s2["write<br/>Writer.write"]\n'
        "    s0 --> s1\n"
        "    s1 --> s2"
    )


def test_a_stage_is_shown_by_its_name_status_and_tasks():
    (shape,) = line("a", map=True)
    some = {StageTask("a", 0): made(status="running", started=1)}.get
    each = derive([shape], some, [1, 2, 3])["a"]
    assert repr(each) == "<StageProgress 'a', running, 1 of 3 tasks>"


def test_the_times_of_a_stage_are_aware_and_none_before_they_are_known():
    shapes = line("a", "b", "c")
    tasks = {"a": [done(1)], "b": [made(status="running", started=5)]}
    a, b, c = derive(shapes, in_run(tasks), None).values()
    assert (a.started_at, a.ended_at) == (to_datetime(1), to_datetime(2))
    assert (b.started_at, b.ended_at) == (to_datetime(5), None)
    assert (c.started_at, c.ended_at) == (None, None)


def test_an_output_is_a_private_copy():
    """P4."""
    each = derive(line("a"), in_run({"a": [done([1])]}), None)["a"]
    each.output.append(2)
    assert each.output == [1]


def test_a_run_is_drawn_with_its_progress():
    shapes = line("a", "b")
    tasks = {
        "a": [made(status="complete", result=b"1", started=1, ended=1_500_001)],
        "b": [made(status="failed", error='no "good"')],
    }
    progress = derive(shapes, in_run(tasks), None)
    assert draw_text("run-1 (failed)", shapes, progress) == (
        "run-1 (failed)\n"
        "  a  completed          1.5 s  first\n"
        '  b  failed: no "good"         after a'
    )
    drawn = draw_mermaid(shapes, progress)
    assert 's1["b<br/>failed: no #34;good#34;"]' in drawn
    assert "class s0 completed" in drawn
    assert "classDef failed" in drawn

"""What a process remembers of a run, so that it looks at nothing in vain."""

import attrs

from swarm.model import Path
from swarm.work import TaskStatus
from swarm.work import _pipeline_rules as rules
from swarm.work._pipeline_graph import RunRecord, StageShape
from swarm.work._task_record import evolve
from tests.work.passage.views import ADA, DictView

RUN = RunRecord(
    id="r",
    name="p",
    stages=(
        StageShape(name="each", map=True, concurrency=4),
        StageShape(name="last", after=("each",)),
    ),
    given=list(range(20)),
    requester=ADA,
)


class CountingView(DictView):
    """Counts the documents that are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def find(self, path):
        self.looks += 1
        return super().find(path)


def end(view, task_id, status, result=None):
    path = Path.of("global", "tasks", task_id)
    record = evolve(view.tree[path.text].record, status=status, result=result)
    view.put(path, record)


def begun(view):
    return [path for path in view.tree if path.startswith("global.tasks.")]


def test_completed_items_are_looked_at_once():
    view, memories = CountingView(), {}
    view.apply(rules.start(view, RUN))
    looks = []
    for item in range(19):
        end(view, f"r:each:{item}", TaskStatus.COMPLETE, b"1")
        view.looks = 0
        assert view.apply(rules.advance(view, "r", memories)) == "going"
        looks.append(view.looks)
    assert max(looks) <= 4 + 4  # the run, the ends of both stages, and what is in work


def test_a_run_with_memories_goes_on_as_one_without():
    """P1."""
    remembering, forgetting, memories = DictView(), DictView(), {}
    views = ((remembering, memories), (forgetting, None))
    for view, _ in views:
        view.apply(rules.start(view, RUN))
    for item in (3, 1, 0, 2, *range(19, 3, -1)):
        for view, known in views:
            if f"global.tasks.r:each:{item}" in view.tree:
                end(view, f"r:each:{item}", TaskStatus.COMPLETE, b"%d" % item)
            view.apply(rules.advance(view, "r", {} if known is None else known))
        assert begun(remembering) == begun(forgetting)


def test_a_failed_item_that_begins_again_is_looked_at():
    """P7."""
    view, memories = DictView(), {}
    view.apply(rules.start(view, RUN))
    for item in range(4):
        status = TaskStatus.FAILED if item == 1 else TaskStatus.COMPLETE
        end(view, f"r:each:{item}", status, None if item == 1 else b"1")
    assert view.apply(rules.advance(view, "r", memories)) == "idle"
    view.apply(rules.resume(view, "r"))
    end(view, "r:each:1~1", TaskStatus.COMPLETE, b"1")
    assert view.apply(rules.advance(view, "r", memories)) == "going"
    assert "global.tasks.r:each:7" in view.tree


def test_another_run_of_the_same_id_is_not_taken_for_the_one_before():
    view, memories = DictView(), {}
    small = attrs.evolve(RUN, given=[1])
    view.apply(rules.start(view, small))
    end(view, "r:each:0", TaskStatus.COMPLETE, b"1")
    view.apply(rules.advance(view, "r", memories))
    end(view, "r:last", TaskStatus.COMPLETE, b"1")
    view.apply(rules.remove(view, "r"))
    view.apply(rules.start(view, small))
    assert view.apply(rules.advance(view, "r", memories)) == "going"
    assert "global.tasks.r:last" not in view.tree


def test_a_run_that_is_over_is_idle():
    view, memories = DictView(), {}
    view.apply(rules.start(view, attrs.evolve(RUN, given=[])))
    end(view, "r:last", TaskStatus.COMPLETE, b"1")
    assert view.apply(rules.advance(view, "r", memories)) == "idle"
    assert rules.look(view, "r").status == "completed"

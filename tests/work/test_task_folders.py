"""The places of what belongs to a task: its folders are found by any spelling."""

import pytest

from swarm.model import Path
from swarm.work._checkpoint_rules import task_series
from swarm.work._steps import STEPS, step_path
from swarm.work._task_record import TaskSpec


@pytest.mark.parametrize("task_id", ["task-1", "task-a.b@2026-01-01", "a b", '"*"'])
@pytest.mark.parametrize("name", ["outline", "part 1", "a.b"])
def test_a_step_stands_where_its_path_says(task_id, name):
    spec = TaskSpec(task_id, "k")
    made = step_path(spec.folder_in(STEPS), name)
    assert made == Path.of("task_steps", task_id, name)
    assert made.text == str(Path.of("task_steps", task_id, name))
    assert Path.parse(made.text) == made


def test_the_folder_of_a_task_is_the_series_of_its_checkpoints():
    spec = TaskSpec("task-a.b@2026-01-01", "k")
    assert spec.folder_in(Path.of("checkpoints")) == task_series(spec.id)

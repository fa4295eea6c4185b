"""Units of work and their passage: tasks, handoffs, checkpoints, pipelines."""

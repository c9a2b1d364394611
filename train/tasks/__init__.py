"""What a model learns: one module per task behind `task.Task`."""

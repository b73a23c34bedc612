"""A task: its folder, its state machine, its progress, its end."""

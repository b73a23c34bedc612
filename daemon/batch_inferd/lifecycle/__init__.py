"""The daemon process's life: lock, endpoint, readiness, signals, idle exit, and the end."""

"""One module a verb; each has `run(context, request) -> exit code`."""

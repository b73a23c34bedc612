"""The batch backend's engine in the daemon: from ready chunks to upstream batches and back to journals.

`run` is a task's engine; `packing` makes submissions of chunks, `life` takes one of them through its
states, `collecting` brings its results home; `capacity`, `reach` and `poller` are shared by all tasks of
an account. The heavy work is done by jobs in worker processes.
"""

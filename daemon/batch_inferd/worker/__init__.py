"""The worker process: executes leased chunks, and knows nothing of tasks beyond them."""

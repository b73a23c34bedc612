"""Checks and repairs of outputs: what is in a file, how it differs from what was published, rebuilding it."""

"""The task's config: read with a position for every value, checked all at once, kept without secrets."""

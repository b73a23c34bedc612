"""A task's SQLite database: one writer thread, grouped commits, numbered migrations."""

"""Sources: what a person gives as an input, read record by record as canonical JSON lines.

A pure library: `open.detect` says what a path is, `open.open_source` reads it. Nothing here knows tasks.
"""

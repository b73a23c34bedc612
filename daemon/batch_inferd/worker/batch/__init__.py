"""The worker's jobs for batches: packing, uploading, downloading, and collecting results into journals.

The daemon decides what is done and when; here is what is too heavy for its loop. `jobs` runs the
messages, `pack` and `collect` work in threads, `transfer` in the loop.
"""

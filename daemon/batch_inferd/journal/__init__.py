"""Journals: what happened to each record of a chunk, in append-only files, a lease each.

A journal has one writer for its whole life, and nobody reads it while that one lives. One line is one
event, sealed by a checksum, so that a torn or damaged line is noticed and costs only its own record.
"""

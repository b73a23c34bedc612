"""Exports: the records of tasks that have ended, in input order, in the formats that others read."""

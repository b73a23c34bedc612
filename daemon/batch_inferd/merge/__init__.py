"""Merging: journals become outputs in input order, counted against the input, published as a whole."""

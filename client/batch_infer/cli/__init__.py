"""The command line: options, one file a verb, and what all verbs share."""

"""The version of the distribution: one number for the client and the daemon."""

__version__ = "0.1.0"

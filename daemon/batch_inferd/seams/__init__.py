"""The places where a test may reach in: failpoints, clock, file system, HTTP, events."""

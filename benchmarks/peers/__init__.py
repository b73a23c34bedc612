"""What people use today, each in a virtual environment of its own, against the same endpoint."""

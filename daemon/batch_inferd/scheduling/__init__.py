"""Who may send how much: accounts, worker processes, and the leases between tasks and workers."""

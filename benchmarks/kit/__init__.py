"""What the benchmarks share: the static endpoint, wrk, samples of processes, and one task from end to end."""

"""What coordination costs: the real machine on real databases, with steps that take no time.

`make bench` measures, and writes docs/benchmarks.md: latencies, steps per second, statements and commits, next to a
floor (bare commits) and to two libraries that could have carried the runs instead of our own rows.
"""

"""Random calls of the public functions, each judged: `python -m tests.fuzz --minutes 10`."""

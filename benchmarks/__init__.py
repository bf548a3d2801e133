"""The fixed workloads, the peers and the report: ``python -m benchmarks``."""

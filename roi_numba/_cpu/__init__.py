"""The CPU engine: tables from the operator's rule, then one of two kernels on all threads."""

"""The CUDA engine: kernels compiled by numba-cuda, launched by CuPy."""

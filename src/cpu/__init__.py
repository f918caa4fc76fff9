"""Faster arithmetic on a CPU: the same functions as PyTorch's, each with a plain twin in the tests.

convolutions replaces those of a model by winograd and whole_map; allocator keeps freed memory;
optimizers skip torch's compiler; threads sleep instead of spinning. --no_cpu_kernels turns all of
them off. What each gains: docs/performance.md.
"""

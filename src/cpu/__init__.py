"""Faster arithmetic on a CPU: the same functions as PyTorch's, each with a plain twin in the tests.

convolutions replaces those of a model by winograd, columns, whole_map and pointwise; fused_norm
joins batch norm with what follows it, by a kernel that compiler compiles; allocator keeps freed
memory; fast_optimizers skip torch's compiler; threads sleep instead of spinning. --no_cpu_kernels
turns all of them off. What each gains: docs/performance.md.
"""

"""Faster equivalents of PyTorch's layers, written for CPUs; a test compares each with PyTorch's.

`convolutions` replaces convolutions by `winograd` and `columns` (on a CPU only) and by `whole_map`
and `pointwise` (matrix products, on every device). `fused_norm` joins batch norm with the
activation and pooling after it, in C++ that `compiler` compiles. `allocator` keeps freed memory,
`fast_optimizers` avoids importing torch's compiler, and `threads` lets waiting threads sleep.
--no_cpu_kernels turns all of them off. Gains: docs/performance.md.
"""

"""The C library's memory allocator: keep what a training step frees, or give it back."""

import ctypes

_KEEP = {
    -4: 0,  # M_MMAP_MAX: no block is mapped on its own, to be unmapped when it is freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: the free end of the heap stays
    -2: 2**26,  # M_TOP_PAD: the heap grows by 64 MiB, rather than page by page
}


def keep_freed_memory() -> None:
    """Let this process keep what a training step frees, for the next step.

    glibc returns large blocks to the kernel, which has to clear every page of them when they are
    asked for again: tens of thousands a step. Does nothing with other C libraries.
    """
    for parameter, value in _KEEP.items():
        call_libc("mallopt", parameter, value)


def return_freed_memory() -> None:
    """Return the free memory of the heap to the kernel, for other processes."""
    call_libc("malloc_trim", 0)


def call_libc(name: str, *arguments: int) -> None:
    """Call a function of the C library. Does nothing if the library lacks it."""
    if function := getattr(ctypes.CDLL(None), name, None):
        function(*arguments)

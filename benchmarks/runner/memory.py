"""The memory of this process, kept once it has been asked for."""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
NEVER = 2**31 - 1


def keep_freed_memory():
    """Has glibc keep what is freed for what is asked for next; other allocators are left alone.

    By default it gives large pieces back to the system at once. Activations and batches are such: a training step of a
    small network then waits for some 2,000 pages of new memory, each of which the system fills with zeros first.
    """
    with suppress(OSError, AttributeError, TypeError):  # no such function
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)

"""Keep freed memory in the process for the next tensor, instead of giving it back to the system.

The C library of Linux gives large blocks back at once, and every step of a training gets them again page by page,
cleared by the kernel: a quarter to a third of a step of a small network on large batches.
"""

import ctypes
import os
import sys

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep freed memory in this process from now on, and return whether that is possible. For commands only.

    Only where the C library is GNU's; what the user has set in the environment (MALLOC_…) is left as it is.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, _LARGEST) for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))


def give_back_freed_memory() -> None:
    """Give memory that is freed and kept for the next tensor back to the system, where the C library is GNU's."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

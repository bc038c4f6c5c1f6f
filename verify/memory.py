"""What fits into memory, before anything is allocated."""

import psutil

MEMORY_SHARE = 0.8


class TooLargeError(MemoryError):
    """What was asked for would need more memory than there is; the text names what does not."""


def available_memory() -> int:
    """Bytes that can still be allocated without swapping."""
    return int(psutil.virtual_memory().available)


def fits(needed: int) -> bool:
    """Whether so many bytes leave the machine some room."""
    return needed <= MEMORY_SHARE * available_memory()


def gibibytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"

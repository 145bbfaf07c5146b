"""Running out of memory, on a GPU or off it, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from instar.errors import InputError


@contextmanager
def naming_short_memory() -> Iterator[None]:
    """What runs below here takes batches of ``classifier.batch`` crops.

    Raises:
        InputError: if memory is short.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InputError(_told(error)) from None
    except RuntimeError as error:
        # PyTorch's allocator of the CPU
        if "can't allocate memory" not in str(error):
            raise
        raise InputError(_told(error)) from None


def _told(error: BaseException) -> str:
    told = " ".join(str(error).split())[:150]
    return f"out of memory ({told}); lower classifier.batch and raise classifier.accumulate by as much"

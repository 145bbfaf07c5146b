"""Models of transformers from folders: no network is looked at, and no code beside the weights is run."""

from pathlib import Path
from typing import Any

from instar.errors import InputError


def pretrained_model(kind: Any, folder: Path, **more: Any) -> Any:
    """A model of transformers from its folder, ready to predict, in single precision whatever it is kept in.

    Raises:
        InputError: see ``pretrained``.
    """
    import torch

    return pretrained(kind, folder, dtype=torch.float32, **more).eval().to(device())


def pretrained(kind: Any, folder: Path, **more: Any) -> Any:
    """A model or a processor of transformers from its folder, without a look at the network or at code beside it.

    Raises:
        InputError: if the folder holds another kind of model, or a damaged one.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return kind.from_pretrained(folder, local_files_only=True, **more)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: no {kind.__name__}, or damaged ({reason}); fetch it again") from None


def device() -> str:
    """Where models run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

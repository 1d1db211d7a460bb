"""Whether a device can learn here."""

import torch

from saferule_ros.errors import SaferuleError


class DeviceError(SaferuleError):
    """A device that this machine or this build of torch does not have."""


def check_device(device: torch.device | str) -> None:
    """Raises DeviceError unless a tensor can be put there. Whether a learner has room there is not known before."""
    if torch.device(device).index is not None:
        raise DeviceError(
            f"device {str(device)!r} names one of several", "Say cuda, and choose with CUDA_VISIBLE_DEVICES"
        )
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} finds no CUDA device",
            "Use cpu; for a GPU set up with `make setup TORCH=cuda`, and check that nvidia-smi lists it",
        )
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:  # full, in use by another process alone, or too old for this build
        raise DeviceError(
            f"nothing can be put on device {str(device)!r}: {str(error).splitlines()[0]}",
            "See what nvidia-smi says of it; use cpu meanwhile",
        ) from error

"""Whether a device can learn here."""

import torch

from saferule_ros.errors import SaferuleError


class DeviceError(SaferuleError):
    """A device that this machine or this build of torch does not have."""


def check_device(device: torch.device | str) -> None:
    """Raises DeviceError unless tensors can be put there."""
    if torch.device(device).index is not None:
        raise DeviceError(
            f"device {str(device)!r} names one of several", "Say cuda, and choose with CUDA_VISIBLE_DEVICES"
        )
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} finds no CUDA device",
            "Use cpu; for a GPU set up with `make setup TORCH=cuda`, and check that nvidia-smi lists it",
        )

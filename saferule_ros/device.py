"""What can learn and unlearn. Whether this machine has it: saferule_ros.learning.devices."""

from enum import StrEnum


class Device(StrEnum):
    """As torch calls it."""

    CPU = "cpu"
    CUDA = "cuda"  # one GPU; which of several, CUDA_VISIBLE_DEVICES says

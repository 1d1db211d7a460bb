"""Whether a device can learn here, asked of a process of its own: whoever asks does not learn, and needs no torch."""

import subprocess
import sys

from saferule_ros.device import Device
from saferule_ros.errors import SaferuleError

# Loading torch and its CUDA libraries takes some seconds, from a robot's slow disk ten times as many.
CHECK_TIMEOUT = 120.0  # [s]


class DeviceMissing(SaferuleError):
    """The device that is to unlearn cannot be used here."""


def require_device(device: Device | str) -> None:
    """Raises DeviceMissing unless a patch's worker could use it. Of the CPU nobody asks; of a GPU, it takes seconds."""
    if Device(device) is Device.CPU:
        return
    command = [sys.executable, "-P", "-m", __name__, str(device)]
    try:
        checked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CHECK_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceMissing(
            f"device {str(device)!r} did not answer in {CHECK_TIMEOUT:g} s", "See whether nvidia-smi answers"
        ) from error
    if checked.returncode != 0:
        said = (checked.stderr.strip().splitlines() or [f"its check ended with status {checked.returncode}"])[-1]
        raise DeviceMissing(f"device {str(device)!r} cannot be used: {said}")


def main() -> None:
    """The process: exit status 0 if the device can learn; else the reason, in one line."""
    from saferule_ros.learning.devices import DeviceError, check_device

    try:
        check_device(sys.argv[1])
    except DeviceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""Whether a device can learn here, asked of a process of its own: whoever asks does not learn, and needs no torch."""

import subprocess
import sys
import time

from saferule_ros.device import Device

# Loading torch and its CUDA libraries takes some seconds, from a robot's slow disk ten times as many.
CHECK_TIMEOUT = 120.0  # [s]


class DeviceCheck:
    """A check that runs beside its owner, who looks at `problem` now and then. Of the CPU nothing has to be asked.

    Args:
        device: that is to unlearn.
        timeout: longest wait [s].
    """

    def __init__(self, device: Device | str, timeout: float = CHECK_TIMEOUT) -> None:
        self._device, self._timeout, self._began = Device(device), timeout, time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._problem: str | None = None
        if self._device is Device.CPU:
            self._problem = ""
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, self._device],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        except OSError as error:
            self._problem = f"whether device {self._device.value!r} can be used is not known: {error}"

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, or that this could not be found out; empty: it can; None: the check still runs."""
        if self._problem is None:
            self._problem = self._look()
        return self._problem

    def end(self) -> None:
        """Ends the check, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def _look(self) -> str | None:
        assert self._process is not None
        status = self._process.poll()
        if status is None and time.monotonic() - self._began <= self._timeout:
            return None
        self.end()
        if status is None:
            return (
                f"whether device {self._device.value!r} can be used is not known: it did not answer in "
                f"{self._timeout:g} s. See whether nvidia-smi answers"
            )
        if status == 0:
            return ""
        said = self._process.communicate()[1].strip().splitlines() or [f"its check ended with status {status}"]
        return f"device {self._device.value!r} cannot be used: {said[-1]}"


def main() -> None:
    """The process: exit status 0 if the device can learn; else the reason, in one line."""
    from saferule_ros.learning.devices import DeviceError, check_device

    try:
        check_device(sys.argv[1])
    except DeviceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

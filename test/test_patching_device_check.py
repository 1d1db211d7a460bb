"""Whether a device can unlearn, found out beside the one who asks."""

import contextlib
import subprocess
import time

import pytest
import torch

from saferule_ros.patching import device_check
from saferule_ros.patching.device_check import DeviceCheck

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
DEADLINE = 60.0  # the process imports torch


def answer(check: DeviceCheck) -> str:
    end = time.monotonic() + DEADLINE
    while check.problem is None:
        assert time.monotonic() < end and check._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            check._process.wait(0.1)
    return check.problem


def test_the_cpu_can_be_used_and_nothing_is_started_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_check.subprocess, "Popen", None)
    assert DeviceCheck("cpu").problem == ""


@no_gpu
def test_a_gpu_that_is_not_there_is_a_problem_with_its_remedy() -> None:
    said = answer(DeviceCheck("cuda"))
    assert said.startswith("device 'cuda' cannot be used: torch") and "TORCH=cuda" in said


def test_a_check_that_does_not_end_is_ended_and_nothing_is_claimed() -> None:
    check = DeviceCheck("cuda", timeout=0.0)
    assert "is not known: it did not answer in 0 s" in answer(check)
    assert check._process is not None and check._process.poll() is not None


def test_a_process_that_cannot_be_started_is_no_answer_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_check.sys, "executable", "/nowhere/python")
    assert "is not known: " in str(DeviceCheck("cuda").problem)


def test_an_owner_that_ends_ends_its_check() -> None:
    check = DeviceCheck("cuda")
    check.end()
    assert check._process is not None and check._process.poll() is not None

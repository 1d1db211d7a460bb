"""The gate: what a bundle must pass before it serves. No torch.

Run as `python -m saferule_ros.policy.gate STORE BUNDLE_ID --deadline S`: prints the report as JSON and exits
with 0 (passed), 1 (refused) or 2 (the question was wrong). A server runs it like that, niced: a file that
crashes or hangs ONNX Runtime then ends the gate, not the robot (see gate_process).
"""

import argparse
import math
import os
import resource
import sys
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from saferule_ros.errors import SaferuleError
from saferule_ros.policy.errors import SpecError
from saferule_ros.policy.reader import StoreReader
from saferule_ros.policy.refusals import RefusedBundleError, refusal_of
from saferule_ros.policy.spec import PolicySpec

PASSED, REFUSED, WRONG = 0, 1, 2
# What the gate allows one action, where nobody says otherwise: so much of the control period. The rest is for messages,
# checks, and whatever else the machine does.
DEADLINE_SHARE = 0.5
STDIN = "-"


class GateCheck(BaseModel):
    """One check: its name, whether it passed, what was found and what is allowed."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: str
    limit: str


class GateReport(BaseModel):
    """The checks in the order in which they were made. The first that fails is the last one made."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    passed: bool
    checks: tuple[GateCheck, ...]
    seconds: float

    @property
    def summary(self) -> str:
        """One line: the check that failed, its value and limit; or that all passed."""
        if self.passed:
            return f"gate passed: {len(self.checks)} checks in {self.seconds:.2f} s"
        failed = self.checks[-1]
        return f"gate refused policy {self.bundle_id}: {failed.name}: {failed.value} (limit: {failed.limit})"

    def require(self) -> None:
        """Raises the kind of RefusedBundleError that names the broken invariant, with value and limit, if one is."""
        if not self.passed:
            failed = self.checks[-1]
            raise refusal_of(failed.name)(f"gate refused policy {self.bundle_id}: {failed.value}", failed.limit)


def usual_deadline(spec: PolicySpec, longest_answer: float = math.inf) -> float:
    """Largest allowed 99th percentile of the time of one action [s], where nobody says otherwise.

    Args:
        spec: of the policy; an answer may take its control period.
        longest_answer: where it may take no longer than this [s].
    """
    return DEADLINE_SHARE * min(1.0 / spec.control_rate, longest_answer)


def run_gate(
    store_root: Path | str,
    bundle_id: str,
    spec: PolicySpec | None,
    deadline_s: float,
    keys: Path | None = None,
) -> GateReport:
    """Checks a bundle of a store in this process. Stops at the first check that fails.

    Args:
        store_root: folder of the store.
        bundle_id: what to check.
        spec: the robot's contract, which the bundle's must equal; None: its own is the measure.
        deadline_s: largest allowed 99th percentile of the time of one action [s].
        keys: folder of the keys that are trusted; None: beside the store.

    Raises:
        KeyFileError: a trusted key cannot be read.
        StoreError: no such store or bundle. Everything else that is wrong stands in the report.
        SpecError: the deadline is not a positive number.
    """
    if not 0.0 < deadline_s < float("inf"):
        raise SpecError(f"gate deadline is {deadline_s} s", "Give a positive number, e.g. half a tick")
    from saferule_ros.policy.checks import CHECKS, Subject, make  # needs onnx, which serving does not load

    start = time.perf_counter()
    store = StoreReader(store_root, keys)
    subject = Subject(store.path(bundle_id), bundle_id, spec, deadline_s, store.keys.trusted(), store.places())
    checks = []
    for kind, check in CHECKS:
        try:
            finding = make(kind, check, subject)
        except RefusedBundleError as error:
            checks.append(GateCheck(name=error.invariant, passed=False, value=error.value, limit=error.limit))
            break
        checks.append(GateCheck(name=kind.invariant, passed=True, value=finding.value, limit=finding.limit))
    return GateReport(
        bundle_id=bundle_id,
        passed=checks[-1].passed,
        checks=tuple(checks),
        seconds=time.perf_counter() - start,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line above. Errors go to stderr as one line."""
    parser = argparse.ArgumentParser(prog="saferule_ros.policy.gate", description="Checks a policy bundle.")
    parser.add_argument("store", help="folder of the policy store")
    parser.add_argument("bundle_id")
    parser.add_argument("--deadline", type=float, required=True, help="largest p99 of one action's time [s]")
    parser.add_argument(
        "--contract", default="", help="the robot's PolicySpec as JSON, - reads it; default: the bundle's"
    )
    parser.add_argument("--keys", type=Path, help="folder of trusted keys; default: beside the store")
    parser.add_argument("--nice", type=int, default=0, help="lower this process's priority by so much")
    parser.add_argument("--memory", type=int, default=0, help="largest address space of this process [MiB]; 0: any")
    parser.add_argument("--cpu-seconds", type=int, default=0, help="processor time of this process [s]; 0: any")
    options = parser.parse_args(arguments)
    if options.nice:
        os.nice(options.nice)
    if options.cpu_seconds:  # whoever started this may be gone before it could end what hangs
        resource.setrlimit(resource.RLIMIT_CPU, (options.cpu_seconds, options.cpu_seconds))
    if options.memory:
        limit = options.memory << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        said = sys.stdin.read() if options.contract == STDIN else options.contract
        contract = PolicySpec.model_validate_json(said) if said else None
        report = run_gate(options.store, options.bundle_id, contract, options.deadline, options.keys)
    except SaferuleError as error:
        print(error, file=sys.stderr)
        return WRONG
    print(report.model_dump_json())
    return PASSED if report.passed else REFUSED


if __name__ == "__main__":
    sys.exit(main())

"""From a learner to a bundle in the store: what learning a first policy and patching one have in common."""

import numpy as np

from saferule_ros.learning.learner import Learner
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.policy.bundle import BundleMeta, Manifest, build_bundle
from saferule_ros.policy.export import choose_golden
from saferule_ros.policy.gate import GateReport, run_gate, usual_deadline
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore

# Golden pairs of a bundle: a replay of this many takes the gate some hundredths of a second.
GOLDEN_PAIRS = 256


def bundle_learner(
    store: PolicyStore, learner: Learner, observations: np.ndarray, spec: PolicySpec, meta: BundleMeta, seed: int,
    reason: str = "", requester: str = "",
) -> Manifest:  # fmt: skip
    """Exports the learner's policy and adds it to the store as a bundle.

    Args:
        observations: (N, O), raw units; golden inputs are chosen among them.
        spec: the robot's contract.
        meta: where the policy comes from.
        seed: of the choice of golden inputs.

    Raises:
        BundleError, ExportError, StoreError: nothing was added.
    """
    policy = ServingPolicy(learner).on_cpu()
    golden = choose_golden(policy, spec, np.asarray(observations), GOLDEN_PAIRS, seed)
    return build_bundle(
        store, policy, spec, golden.observations, golden.actions, meta, reason=reason, requester=requester
    )


def pass_gate(store: PolicyStore, manifest: Manifest, contract: PolicySpec | None = None) -> GateReport:
    """Puts a bundle through the gate, as a swap on the robot does where nothing else is set there.

    Args:
        contract: the robot's; None: the bundle's own is the measure.

    Raises:
        RefusedBundleError: of the kind that names the broken invariant, the value and the limit.
    """
    report = run_gate(store.root, manifest.bundle_id, contract or manifest.spec, usual_deadline(manifest.spec))
    report.require()
    return report

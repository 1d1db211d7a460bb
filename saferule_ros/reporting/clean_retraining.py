"""What a patch is held to where its forget set errs: the policy that never saw the poison.

Retraining learns from what the forget set leaves. Where that misses poison, it learned from some itself, so it is no
measure: the same trial with a forget set that names all of it and nothing else has the policy that is. [ours]
"""

from collections.abc import Sequence

from saferule_ros.reporting.comparison import RETRAIN
from saferule_ros.reporting.trials import POISONED, TrialResult

# Retraining from what a forget set that errs has left, beside the other methods.
AS_NAMED = "retrain-as-named"
# What methods are held to, and no rivals of them: retraining has the time and the data that a patch is to do without.
NO_RIVALS = frozenset({POISONED, RETRAIN, AS_NAMED})


def with_clean_retraining(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Results in which "retrain" never saw poison, where it is known what that policy does; in the same order.

    Where a forget set errs its own retraining becomes "retrain-as-named", another method.
    """
    clean = {(one.cell, one.seed): one for one in results if one.method == RETRAIN}
    found: list[TrialResult] = []
    for one in results:
        exact = one.cell.model_copy(update={"precision": 1.0, "recall": 1.0})
        reference = clean.get((exact, one.seed))
        if one.method != RETRAIN or reference is None or one.cell == exact:
            found.append(one)
        else:
            found.append(reference.model_copy(update={"cell": one.cell}))
            found.append(one.model_copy(update={"method": AS_NAMED}))
    return found

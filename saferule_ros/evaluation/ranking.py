"""How well one list of numbers orders what another one measures."""

import numpy as np
import numpy.typing as npt


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rho of two lists (N,), -1 to 1: 1 if they order alike; NaN if one of them is all the same.

    Equal numbers share the mean of their ranks.
    """
    one, other = (_ranks(np.asarray(values, np.float64)) for values in (first, second))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[place]

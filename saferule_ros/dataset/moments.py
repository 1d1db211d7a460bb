"""Mean and spread of measured values, whatever their offset and however many rows there are."""

import numpy as np
import numpy.typing as npt

# Below this a value is as good as constant [its own unit]: dividing by its spread would only amplify noise.
LEAST_SPREAD = 1e-3


def moments(values: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation (O,) of the columns of (N, O), added up in double precision.

    In single precision numpy adds row after row: of 100,000 air pressures of 101,325 +- 5 Pa it makes a spread of 45.
    """
    return values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)


def barely_vary(values: npt.NDArray[np.floating]) -> list[int]:
    """Columns of (N, O) that are taken for constant, and are not: their unit may be too large for what they tell."""
    mean, spread = moments(values)
    rounding = np.finfo(np.float32).eps * np.abs(mean)
    return [int(column) for column in np.flatnonzero((spread > rounding) & (spread < LEAST_SPREAD))]


def scales(spread: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What to divide by (O,) for standard scores: the spread (O,), and 1 where a value is as good as constant."""
    return np.where(spread < LEAST_SPREAD, 1.0, spread)

"""Augmented random search (Mania, Guy and Recht, 2018): learns a policy's parameters from episode scores alone.

In the paper's symbols: M the parameters, N directions delta tried per iteration, b the best of them that count,
alpha the step size, nu the size of the directions, sigma_R the spread of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Parameters = NDArray[np.float64]

# Scores of K sets of parameters: those of plus directions first, those of the opposite ones, in the same order, after.
Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_LEAST_SPREAD = 1e-8  # where all scores are equal there is nothing to learn, and nothing to divide by


@dataclass(frozen=True)
class SearchSettings:
    """How a search goes.

    Attributes:
        directions: N.
        best: b, at most N.
        step_size: alpha.
        noise: nu.
    """

    directions: int = 8
    best: int = 4
    step_size: float = 0.03
    noise: float = 0.03


def search(
    start: Parameters, score: Score, settings: SearchSettings, generator: np.random.Generator
) -> Iterator[Parameters]:
    """Yields the parameters after each iteration, for ever.

    Args:
        start: M before the first iteration, of any shape.
        score: of 2N sets of parameters (2N, *shape), one number each; more is better.
        settings: see SearchSettings.
        generator: of the directions.
    """
    parameters = np.array(start, np.float64)
    while True:
        delta = generator.standard_normal((settings.directions, *parameters.shape))
        tried = np.concatenate([parameters + settings.noise * delta, parameters - settings.noise * delta])
        plus, minus = np.split(score(tried), 2)
        best = np.argsort(-np.maximum(plus, minus), kind="stable")[: settings.best]
        sigma = max(float(np.concatenate([plus[best], minus[best]]).std()), _LEAST_SPREAD)
        gradient = np.tensordot(plus[best] - minus[best], delta[best], axes=1)
        parameters = parameters + settings.step_size / (settings.best * sigma) * gradient
        yield parameters.copy()

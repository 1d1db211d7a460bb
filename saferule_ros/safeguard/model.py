"""A safeguard file: YAML, every field with range and meaning. A ready one is in config/safeguards/. docs/safeguard.md.

The machine reads, once per tick, an observation and the action that led to it: what a transition did, its last one
too. Both are in the units of the policy, as on the topics `observation` and `action` and in a dataset.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from saferule_ros.dataset.expression import Expression, ExpressionError
from saferule_ros.dataset.expression_evaluation import is_within
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.safeguard.machine import MAX_LABELS, Moves, compile_moves
from saferule_ros.safeguard.parts import ACTION, OBSERVATION, Name, Part, Place, PlaceText, State, Transition
from saferule_ros.settings import load_settings

SAFEGUARD_SCHEMA = "saferule_ros/safeguard/1"
# As for policies: no robot has longer vectors.
MAX_SIZE = 100_000


class Safeguard(Part):
    """All of it. Raises SafeguardError for words that do not fit each other."""

    schema_: str = Field(SAFEGUARD_SCHEMA, alias="schema", pattern=f"^{SAFEGUARD_SCHEMA}$", description="of this file")
    name: Name = Field(description="for people")
    description: str = Field("", description="for people")
    observation_size: int = Field(ge=1, le=MAX_SIZE, description="numbers of an observation, O")
    action_size: int = Field(ge=1, le=MAX_SIZE, description="numbers of an action, A")
    inputs: dict[Name, PlaceText] = Field({}, description="names for parts of them: observation[2:14], action[0]")
    labels: dict[Name, Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, max_length=MAX_LABELS, description="true or false, over the inputs: min(scan) < 0.3"
    )
    initial: Name = Field(description="state in which an episode begins")
    states: dict[Name, State] = Field(min_length=1, description="by their names")
    transitions: tuple[Transition, ...] = Field(description="the first that holds is taken")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        try:
            self._check_inputs()
            self._check_labels()
            _ = self.moves  # compiled now, so that a machine that cannot run is refused here
        except SafeguardError as error:
            raise SafeguardError(f"safeguard {self.name!r}: {error.what}", error.hint) from error
        return self

    @cached_property
    def places(self) -> dict[str, Place]:
        """Inputs, and the two vectors themselves, by the names that labels use."""
        return {name: Place.parse(text) for name, text in
                {OBSERVATION: OBSERVATION, ACTION: ACTION, **self.inputs}.items()}  # fmt: skip

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """The labels, parsed, in their order."""
        return tuple(Expression(text) for text in self.labels.values())

    @cached_property
    def moves(self) -> Moves:
        """See machine."""
        return compile_moves(tuple(self.labels), self.states, self.initial, self.transitions)

    def columns(self, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What labels are evaluated over: views of `vectors`, (N, O) and (N, A), by the names of the inputs."""
        return {name: vectors[place.vector][:, place.index] for name, place in self.places.items()}

    def require_sizes(self, observation_size: int, action_size: int, what: str) -> None:
        """Raises SafeguardError unless `what` has vectors of these sizes."""
        if (observation_size, action_size) != (self.observation_size, self.action_size):
            raise SafeguardError(
                f"safeguard {self.name!r} is for observations of {self.observation_size} numbers and actions of "
                f"{self.action_size}; {what} has {observation_size} and {action_size}",
                "Is it the safeguard of this robot?",
            )

    def _check_inputs(self) -> None:
        sizes = {OBSERVATION: self.observation_size, ACTION: self.action_size}
        for name, text in self.inputs.items():
            if name in sizes:
                raise SafeguardError(f"an input is named {name!r}, as the vector is", "Choose another name")
            size = sizes[self.places[name].vector]
            if not is_within(self.places[name].index, size):
                raise SafeguardError(
                    f"input {name} is {text}, which is not all there: {self.places[name].vector} has {size} numbers",
                    "Correct the index, or the size",
                )

    def _check_labels(self) -> None:
        """Each is tried on a row of ones."""
        row = self.columns({OBSERVATION: np.ones((1, self.observation_size)), ACTION: np.ones((1, self.action_size))})
        for name, text in self.labels.items():
            try:
                expression = Expression(text)
                expression.require(tuple(self.places), "input")
                expression.evaluate_truth(row, "Compare it: min(scan) < 0.3", strict=False)
            except ExpressionError as error:
                raise SafeguardError(f"label {name}: {error.what}", error.hint) from error


def load_safeguard(path: Path) -> Safeguard:
    """Reads a safeguard file.

    Raises:
        SettingsError: unreadable, or a field that is unknown, missing or out of range; it is named with its value.
        SafeguardError: what it says does not fit together.
    """
    return load_settings(Safeguard, path)

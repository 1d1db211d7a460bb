"""What a contract would read, and what is wrong with it: before it runs on a robot, and against a recording."""

from pathlib import Path

import numpy as np

from saferule_ros.contract.check_bag import look_into, play
from saferule_ros.contract.check_fields import check_fields, check_range
from saferule_ros.contract.check_result import ContractCheck, Problem
from saferule_ros.contract.model import Contract
from saferule_ros.dataset.expression import ExpressionError
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.safeguard.errors import SafeguardError


def check_contract(contract: Contract, bag: Path | None = None) -> ContractCheck:
    """Checks types, fields, sizes and expressions; with a bag, also topics, rates, ticks and episodes.

    Raises:
        BagError: there is no bag.
    """
    result = ContractCheck(contract)
    known: dict[str, TopicInfo] = {}
    damage = look_into(bag, result, known) if bag is not None else []
    for name, source in contract.sources.items():
        before = len(result.problems)
        result.sizes[name] = check_fields(f"source {name}", source, known, result)
        if result.sizes[name] is None and name in contract.required and len(result.problems) == before:
            what = "nothing but the first message says how many numbers it gives; those of another size are refused"
            result.warnings.append(Problem(f"source {name}", what, "Give size, or a slice with an end: data[0:3]"))
    before = len(result.problems)
    size = check_fields("action", contract.action, known, result)
    if size is not None and size != contract.action_size:
        result.problems.append(
            Problem("action", f"its fields have {size} numbers, low and high {contract.action_size}", "Make them fit")
        )
    if len(result.problems) == before:  # else its type or a field is not known
        check_range(known, result)
    _check_expressions(result)
    if all(result.sizes[name] is not None for name in contract.observed):
        observed = sum(result.sizes[name] or 0 for name in contract.observed)
        history = contract.history
        result.observation_size = history.observations * observed + history.actions * contract.action_size
        _check_safeguards(result, result.observation_size)
    if bag is not None and not result.problems:
        play(bag, result)
    result.problems += [
        Problem("bag", what, "Ingest takes what is left of it, and says what is lost") for what in damage
    ]
    return result


def _check_expressions(result: ContractCheck) -> None:
    """Tried on numbers of the right sizes."""
    sizes = result.sizes
    for name, expression in result.contract.expressions.items():
        if any(sizes.get(source) is None for source in expression.names):
            continue
        columns = {source: np.ones((1, sizes[source] or 0)) for source in expression.names}
        try:
            expression.evaluate(columns)
        except ExpressionError as error:
            result.problems.append(Problem(name, error.what, error.hint))


def _check_safeguards(result: ContractCheck, observation_size: int) -> None:
    for name, safeguard in result.contract.safeguards.items():
        try:
            safeguard.require_sizes(observation_size, result.contract.action_size, "this contract")
        except SafeguardError as error:
            result.problems.append(Problem(name, error.what, error.hint))

"""Whether the robot's message can say every action that a contract allows: found out before the robot moves."""

from collections.abc import Callable
from typing import Any

import numpy as np

from saferule_ros.contract.command import Command
from saferule_ros.contract.decoding import Decoder
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.translation import reading_of, types_of

# What single precision leaves of a number, relative to it; and the least number that it holds in full.
_SINGLE = float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)


def check_command(command: Command, make: Callable[[], Any], serialize: Callable[[Any], bytes]) -> None:
    """Makes the least, the first and the largest command, and reads each back from its bytes.

    Numbers between them need no look: scale and offset keep the order.

    Args:
        command: of the contract.
        make: an empty message of its type.
        serialize: a message to its CDR bytes.

    Raises:
        ContractError: a command cannot be made, comes back as another one, or least and largest are the same.
    """
    about = command.about
    decoder = Decoder(reading_of(about), types_of(about.topic, about.type, None))
    found = {}
    for name, action in {"low": about.low, "stop": about.first, "high": about.high}.items():
        try:
            message = make()
            written = command.fill(message, command.values(np.array(action, np.float64)))
            payload = serialize(message)
        except ContractError as error:
            raise ContractError(
                f"no {about.type} can be made of the action's {name}: {error.what}", error.hint
            ) from error
        except (AttributeError, IndexError, TypeError, ValueError, AssertionError, OverflowError, SystemError) as error:
            # SystemError: what the generated code says where a field has a value of another type.
            raise ContractError(
                f"no {about.type} can be made of the action's {name}: {error.__cause__ or error}",
                "Correct its fields and constants; `saferule contract check` names the fields",
            ) from error
        (sample,) = decoder.decode([payload], [0])
        if sample.values is None or not np.allclose(sample.values, written, rtol=_SINGLE, atol=_TINY):
            read = sample.problem if sample.values is None else sample.values.tolist()
            raise ContractError(
                f"the action's {name} is sent as {written.tolist()} and read back as {read}",
                "Correct the action's fields: they are where a bag's commands are read from, too",
            )
        found[name] = sample.values
    same = np.flatnonzero(found["low"] == found["high"])
    if len(same):
        raise ContractError(
            f"low and high of action[{same[0]}] are the same command, {found['low'][same[0]]:g}",
            "Make scale larger: the field holds whole numbers only, or too few digits",
        )

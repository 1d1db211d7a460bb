"""What an offline check decides. In a file of its own, as a command line's help names it and imports nothing heavy."""

from enum import StrEnum


class JudgeMode(StrEnum):
    """Whether a policy is judged before it is proposed."""

    NONE = "none"  # not at all: the policy after the last step is the candidate
    ADVISE = "advise"  # so it is where the model cannot be trusted; where it can, what it says counts
    REQUIRE = "require"  # nothing is proposed that a trusted model has not found to be within the limit

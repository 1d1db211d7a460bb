"""Colours of the report's plots: told apart by everybody, the colour-blind included, on light and on dark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours for one background."""

    name: str
    ink: str  # text and axes
    faint: str  # grid
    limit: str  # the line that must not be crossed
    policies: dict[str, str]  # evaluation name to colour: what is the same policy has the same colour
    forget: str
    keep: str


def _policies(clean: str, bad: str, good: str, others: tuple[str, str, str]) -> dict[str, str]:
    """Of the demo's evaluations, and of the methods that a comparison shows beside each other."""
    return {
        "clean": clean, "poisoned": bad, "patched": good, "rolled_back": bad, "forward_again": good,
        "safe_rule": good, "retrain": clean,
        **dict(zip(("reward_only", "traj_deleter", "fine_tune"), others, strict=True)),
    }  # fmt: skip


LIGHT = Palette(
    name="light", ink="#2b3340", faint="#d9dee6", limit="#8a1c1c",
    policies=_policies("#5f6b7a", "#d13f00", "#1155a8", ("#3a9bb8", "#8a4fa3", "#a87b00")),
    forget="#d13f00", keep="#1155a8",
)  # fmt: skip
DARK = Palette(
    name="dark", ink="#d5dbe5", faint="#39424f", limit="#ff8f8f",
    policies=_policies("#9aa7b8", "#ff8152", "#6fb1ff", ("#6fd3e0", "#cf9be6", "#e0b84a")),
    forget="#ff8152", keep="#6fb1ff",
)  # fmt: skip

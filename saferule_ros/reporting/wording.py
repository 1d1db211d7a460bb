"""Numbers as readers want them: three digits that mean something, units, and a dash for what is not known."""

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"


def number(value: float, digits: int = 1) -> str:
    """With so many decimals, thousands separated; a dash for NaN and infinity."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else MISSING


def percent(share: float, digits: int = 0) -> str:
    """0.5 as 50 %, or with digits after the point."""
    return f"{share:.{digits}%}".replace("%", " %") if math.isfinite(share) else MISSING


def duration(seconds: float) -> str:
    """0.2 ms, 14 ms, 0.9 s, 42 s, 3 min 05 s, 2 h 05 min."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 0.1:
        return f"{1000 * seconds:.1f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def sentence_case(text: str) -> str:
    """With a capital letter, unless it begins with a name such as sim_bridge."""
    return text[:1].upper() + text[1:] if text.split(" ", 1)[0].isalpha() else text


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = sentence_case(text.strip())
    return text if not text or text[-1] in ".!?" else f"{text}."


def measured_on(certificate: Mapping[str, Any]) -> str:
    """On which data a certificate was measured; empty where there is none."""
    if not certificate:
        return ""
    forget, keep = (certificate.get(f"held_out_{part}", 0) for part in ("forget", "keep"))
    if not forget and not keep:
        return "Measured on the data that the patch trained on."
    parts = [f"{number(count, 0)} transitions" if count else "all" for count in (forget, keep)]
    return f"Measured on {parts[0]} to forget and {parts[1]} to keep that were withheld from the patch."

"""A safeguard as a drawing: Mermaid, which GitHub and many editors show as a picture."""

from saferule_ros.safeguard.model import Safeguard


def mermaid(safeguard: Safeguard) -> str:
    """A state diagram: unsafe states are red, transitions in the order in which they are tried."""
    lines = ["stateDiagram-v2", "    classDef unsafe fill:#f8d7da,stroke:#a33", f"    [*] --> {safeguard.initial}"]
    count: dict[str, int] = {}
    for transition in safeguard.transitions:
        number = count[transition.from_] = count.get(transition.from_, 0) + 1
        delay = f", after {transition.after}" if transition.after > 1 else ""
        lines.append(f"    {transition.from_} --> {transition.to}: {number}. {transition.when}{delay}")
    lines += [f"    class {name} unsafe" for name, state in safeguard.states.items() if state.unsafe]
    return "\n".join(lines)

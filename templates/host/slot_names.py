"""The names of the two slots, and the slot that a link names."""

SLOTS = ("blue", "green")


def other(slot: str) -> str:
    """Return the other slot; blue if there is none yet."""
    return "green" if slot == "blue" else "blue"


def slot_of(target: str) -> str:
    """Return the slot that a link's target ends with; empty if it is no slot."""
    name = target.rpartition("/")[2]
    return name if name in SLOTS else ""

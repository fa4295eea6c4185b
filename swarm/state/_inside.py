"""Changing what lies inside a document's value. Pure; the value is the caller's own."""

from swarm.errors import PathConflict
from swarm.model import ABSENT, JSON, Path, Segment, dig


def put_inside(value: JSON, rest: tuple[Segment, ...], new: JSON, place: Path) -> JSON:
    """Return `value` with `new` at `rest`; missing objects on the way are made.

    Raises:
        PathConflict: The way leads through something that is neither object nor
            array, or beyond the end of an array; `place` is named in the message.
    """
    if not rest:
        return new
    step, *further = rest
    below = tuple(further)
    if value is ABSENT and type(step) is str:
        value = {}
    if type(value) is dict and type(step) is str:
        value[step] = put_inside(value.get(step, ABSENT), below, new, place)
    elif type(value) is list and type(step) is int and step <= len(value):
        if step == len(value):
            value.append(put_inside(ABSENT, below, new, place))
        else:
            value[step] = put_inside(value[step], below, new, place)
    else:
        raise PathConflict(f"{place} cannot be written: {_why(value, step)}")
    return value


def take_inside(value: JSON, rest: tuple[Segment, ...]) -> bool:
    """Take away what is at `rest` inside `value`; return whether it was there."""
    *way, last = rest
    holder = dig(value, tuple(way))
    if holder is ABSENT or dig(holder, (last,)) is ABSENT:
        return False
    del holder[last]
    return True


def _why(value: JSON, step: Segment) -> str:
    if type(value) is list and type(step) is int:
        return f"index {step} is beyond the array's end at {len(value)}"
    kind = "nothing" if value is ABSENT else type(value).__name__
    return f"{step!r} cannot be a step into {kind}"

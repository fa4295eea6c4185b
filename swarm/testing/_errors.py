"""The exceptions of the simulator itself."""

from swarm.errors import SwarmError


class SimulationError(SwarmError):
    """Base of everything the simulator itself raises."""


class EscapeError(SimulationError):
    """The program reached for the real world: a thread, a socket, a process, a signal.

    The message says which call it was and what to do instead.
    """


class StuckError(SimulationError):
    """Nothing can ever happen again: no task is ready and no timer is set.

    The message lists what each task waits for, at which line, and the cycle if
    there is one.
    """


class StepLimitError(SimulationError):
    """The run took more steps, or more virtual time, than it was allowed.

    The message says whether virtual time still moved: if it did not, some tasks wake
    each other up for ever at one instant. It lists what each task waits for.
    """


class InvariantError(SimulationError, AssertionError):
    """A condition given to `sim.always` or `sim.eventually` did not hold."""


class GoalError(SimulationError, AssertionError):
    """A goal given to `sim.sometimes` was reached in no schedule at all."""


class LinearizabilityError(SimulationError, AssertionError):
    """The answers of concurrent operations fit no order of them, one by one.

    The message holds the judge's explanation and the whole history.
    """


class InconclusiveError(SimulationError, AssertionError):
    """A search ended without the answer that its success would claim.

    For example: a pattern of faults matched no agent, a judge gave up, a replay blob no
    longer fits the program, a proof was not finished. The message says what to do.
    """


class BlobError(SimulationError, ValueError):
    """The text is not a replay blob, or it was made by an unknown format version."""


class SimulatedCrash(SimulationError):
    """An agent was made to crash by a simulated fault."""

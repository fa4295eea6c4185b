"""The changes that a dashboard may make, if its program allows them: each an event."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import orjson

from swarm.errors import SwarmError
from swarm.model import event
from swarm.system import Surface

_LONGEST: Final = 500
"""The most characters of a reason."""


@event("dashboard.action")
class DashboardAction:
    """A person has changed something by hand, or has been refused.

    Attributes:
        action: "retry", "cancel" or "resolve" a task, "pause" or "resume" an agent.
        target: The id of the task, or the name of the agent.
        actor: The name of the person, as the program gave it to the dashboard.
        reason: The person's reason.
        outcome: "done", or why it was refused.
    """

    action: str
    target: str
    actor: str
    reason: str
    outcome: str


@attrs.frozen
class Order:
    """A change that a page asks for.

    Attributes:
        action: One of `ACTIONS`.
        target: The task or agent.
        reason: Why; it may not be empty.
        value: The result of a task that is resolved: a JSON value.
    """

    action: str
    target: str
    reason: str
    value: Any = None


ACTIONS: Final[Mapping[str, Callable[[Surface, Order], Awaitable[object]]]] = {
    "retry": lambda swarm, order: swarm.tasks.get(order.target).retry(),
    "cancel": lambda swarm, order: swarm.tasks.get(order.target).cancel(order.reason),
    "resolve": lambda swarm, order: swarm.tasks.get(order.target).resolve(order.value),
    "pause": lambda swarm, order: swarm.agents[order.target].pause(),
    "resume": lambda swarm, order: swarm.agents[order.target].resume(),
}


def read_order(body: bytes) -> Order:
    """Return the order that the body of a request holds.

    Raises:
        ValueError: It is no order, and the error says what is missing.
    """
    try:
        given = orjson.loads(body)
    except ValueError:
        raise ValueError("the body is not JSON") from None
    if not isinstance(given, dict):
        raise ValueError('the body is an object: {"action", "target", "reason"}')  # noqa: TRY004  # the request is wrong, not the program
    texts = [given.get(name, "") for name in ("action", "target", "reason")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("action, target and reason are texts")
    action, target, reason = texts
    return order_of(action, target, reason, given.get("value"))


def order_of(action: str, target: str, reason: str, value: Any = None) -> Order:
    """Return an order.

    Raises:
        ValueError: There is no such action, or the target or the reason is missing.
    """
    if action not in ACTIONS:
        raise ValueError(f"the actions are {', '.join(ACTIONS)}")
    if not target:
        raise ValueError("the target is missing: a task's id or an agent's name")
    if not reason.strip() or len(reason) > _LONGEST:
        raise ValueError(f"a reason is needed, of at most {_LONGEST} characters")
    return Order(action, target, reason.strip(), value)


async def carry_out(swarm: Surface, order: Order, actor: str) -> None:
    """Do what an order says, and publish a `DashboardAction`, also when it is refused.

    A pause takes effect at once; nothing waits here for the turns in hand.

    Raises:
        SwarmError: It was refused: there is no such task, or it is over, say.
    """
    try:
        doing = ACTIONS[order.action](swarm, order)
        if order.action != "pause":
            await doing
    except SwarmError as error:
        await _tell(swarm, order, actor, str(error))
        raise
    await _tell(swarm, order, actor, "done")


async def _tell(swarm: Surface, order: Order, actor: str, outcome: str) -> None:
    done = DashboardAction(order.action, order.target, actor, order.reason, outcome)
    await swarm.events.publish(done)

"""A dashboard of a swarm, in a browser: `await swarm.dashboard()`.

```python
async with Swarm() as swarm:
    await swarm.dashboard()  # prints http://127.0.0.1:PORT/?token=...
```

It needs the extra `dashboard` (Starlette and uvicorn), and is served from the swarm's
own event loop on a free port of loopback, until the swarm ends or `close` of the
returned `Dashboard` is awaited. `swarm.asgi()` is the same as an ASGI app, to be
mounted in an app of yours, at a prefix if you like.

**Pages.** Overview (tasks by status and kind, seconds in each status, reasons of
failures, throughput, health), tasks and each task (attempts, steps, handoffs, audit
trail, trace), agents (who spawned which, load, current work, errors), state (the tree,
versions, differences), locks, semaphores and barriers (the wait-for graph; a cycle is
red), pipelines (the graph with its live status), events (as they come; filter, pause).

**Rules.**

- Read only, unless `actions=True`: then tasks can be retried (when they are
  escalated), cancelled and resolved, and agents paused and resumed. Each needs a reason
  and is a `dashboard.action` event, with the actor and the outcome.
- Pages are told of changes at most 4 times a second. All pages together spend at most
  about 2 % of the loop's time on looks at the swarm: the longer a look takes, the
  fewer there are, but one every 5 seconds. Nothing is computed while no page is open
  or visible.
- A page shows at most 100 rows at once; the stream of events says when it leaves some
  out. A page that comes back after a break goes on after the last event that it has.
- Values are masked: those whose keys name secrets (password, token, api_key, ...) are
  "***". Secrets under other keys are not known.

**Safety.** The server listens on 127.0.0.1 only. The URL's token is 256 bits from the
machine's chance; a first visit turns it into a cookie (HttpOnly, SameSite=Strict).
Every request, of any method to any route, is refused unless its Host is a name of
loopback (or one of `hosts`), its Origin and Sec-Fetch-Site are the dashboard's own, and
it has the token or cookie. A content security policy allows only the dashboard's own
files, and no page makes HTML of text. Who has the token can read all that the program
can; a browser also sends the cookie to other servers on other ports of 127.0.0.1, so do
not visit servers of people you do not trust there.

**For programs.** `GET api/VIEW` with `Authorization: Bearer TOKEN` returns a view as
JSON, and `GET api/stream/VIEW` as server-sent events; views are overview, tasks, task,
agents, agent, trace, state, locks, pipelines and events. `running_swarms()` finds the
swarms of this user that serve a dashboard, by the runtime files (0600) they write.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from swarm.observability.dashboard._actions import (
    DashboardAction,
    carry_out,
    order_of,
)
from swarm.observability.dashboard._runtime_file import RunningSwarm, running_swarms
from swarm.observability.dashboard._views import VIEWS

if TYPE_CHECKING:
    from swarm.observability.dashboard._app import make_app
    from swarm.observability.dashboard._server import serve

__all__ = [
    "VIEWS",
    "DashboardAction",
    "RunningSwarm",
    "carry_out",
    "make_app",
    "order_of",
    "running_swarms",
    "serve",
]

_SERVING = {"make_app": "_app", "serve": "_server"}


def __getattr__(name: str) -> Any:
    """Import what needs Starlette when it is asked for: the command line does not."""
    if name not in _SERVING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_SERVING[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)

"""What a person may do from a dashboard, and the event that tells of it."""

import httpx
import orjson
import pytest

from swarm import Agent, Swarm
from swarm.observability.dashboard import DashboardAction
from swarm.observability.dashboard._actions import read_order


class Clerk(Agent):
    async def pack(self) -> None: ...


class Post:
    """A program that may act."""

    def __init__(self, swarm):
        app = swarm.asgi(actions=True, actor="ann")
        headers = {"authorization": f"Bearer {app.token}"}
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        )

    async def __call__(self, action, target, reason="because", **more):
        order = {"action": action, "target": target, "reason": reason, **more}
        return await self.client.post("/api/actions", json=order)


async def escalated(swarm):
    task = await swarm.tasks.submit("work", max_retries=0, escalate_to="manual")
    claim = await swarm.tasks.claim("work")
    await claim.fail("no ink", retry=False)
    assert (await task.record()).status == "escalated"
    return task


def told(swarm):
    return [event.payload for event in swarm.events.query(DashboardAction)]


async def test_a_task_is_retried_cancelled_and_resolved():
    async with Swarm() as swarm:
        post = Post(swarm)
        retried, cancelled, resolved = [await escalated(swarm) for _ in range(3)]
        assert (await post("retry", retried.id)).json() == {"done": True}
        assert (await post("cancel", cancelled.id, "not needed")).status_code == 200
        done = await post("resolve", resolved.id, "by hand", value={"n": 1})
        assert done.status_code == 200
        assert (await retried.record()).status == "pending"
        assert (await cancelled.record()).history[-1].reason == "not needed"
        assert await resolved.result() == {"n": 1}
        assert [(a.action, a.target, a.actor, a.reason) for a in told(swarm)] == [
            ("retry", retried.id, "ann", "because"),
            ("cancel", cancelled.id, "ann", "not needed"),
            ("resolve", resolved.id, "ann", "by hand"),
        ]
        assert {a.outcome for a in told(swarm)} == {"done"}


async def test_an_agent_is_paused_and_resumed():
    async with Swarm() as swarm:
        post = Post(swarm)
        ada = await swarm.spawn(Clerk, name="ada")
        assert (await post("pause", "ada")).status_code == 200
        assert ada.status == "paused"
        assert (await post("resume", "ada")).status_code == 200
        assert ada.status == "idle"
        assert [each.action for each in told(swarm)] == ["pause", "resume"]


async def test_what_is_refused_is_answered_and_told():
    async with Swarm() as swarm:
        post = Post(swarm)
        task = await swarm.tasks.submit("work")
        refused = await post("retry", task.id)
        assert refused.status_code == 409
        assert "escalated" in refused.json()["error"] or refused.json()["error"]
        assert (await post("cancel", "nothing")).status_code == 404
        assert (await post("pause", "nobody")).status_code == 404
        outcomes = [each.outcome for each in told(swarm)]
        assert len(outcomes) == 3
        assert "done" not in outcomes


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (b"{", "not JSON"),
        (b"[]", "an object"),
        (b"{}", "the actions are"),
        (b'{"action": 1}', "are texts"),
        (b'{"action": "kill", "target": "a", "reason": "b"}', "the actions are"),
        (b'{"action": "retry", "reason": "b"}', "target is missing"),
        (b'{"action": "retry", "target": "a"}', "a reason is needed"),
        (b'{"action": "retry", "target": "a", "reason": " "}', "a reason is needed"),
        (
            orjson.dumps({"action": "retry", "target": "a", "reason": "x" * 501}),
            "at most 500",
        ),
    ],
)
async def test_an_order_that_means_nothing_says_what_is_wrong(given, problem):
    with pytest.raises(ValueError, match=problem):
        read_order(given)
    async with Swarm() as swarm:
        post = Post(swarm)
        headers = {"content-type": "application/json"}
        answer = await post.client.post("/api/actions", content=given, headers=headers)
        assert answer.status_code == 400
        assert problem in answer.json()["error"]
        assert told(swarm) == []


async def test_a_body_that_is_too_large_is_refused_while_it_comes():
    async with Swarm() as swarm:
        answer = await Post(swarm)("retry", "x" * 70_000)
        assert answer.status_code == 413

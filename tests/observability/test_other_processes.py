"""What one process sees of agents that live in another one."""

from swarm.observability import agent, agents, overview
from tests.support.processes import Shop, pair, settle
from tests.support.virtual_loop import virtual


@virtual
async def test_agents_of_other_processes_are_listed_last_with_their_process():
    async with pair() as (_, one, two):
        await one.spawn(Shop, name="ada")
        await two.spawn(Shop, name="bo")
        await settle()
        seen = agents(two)
        assert [each["name"] for each in seen] == ["bo", "ada"]
        assert seen[0]["process"] != seen[1]["process"]
        assert set(seen[0]) == set(seen[1])
        assert [each["name"] for each in agents(two, text="ad")] == ["ada"]
        assert agent(two, "ada") == seen[1]
        assert agent(two, "nobody") is None
        assert overview(two)["agents"]["total"] == 1


@virtual
async def test_a_ref_and_the_registry_show_agents_of_other_processes():
    async with pair() as (_, one, two):
        await one.spawn(Shop, name="ada")
        await settle()
        ref = two.agents["ada"]
        text = ref._repr_mimebundle_()["text/plain"]
        assert "agent 'ada' (shop) [idle]" in text
        assert "process: " in text
        assert "ada" in two.agents._repr_mimebundle_()["text/plain"]

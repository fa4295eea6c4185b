"""Agents waiting for each other: who waits for what, and what holds it up."""

from swarm.coordination._wait_graph import Obstacle, WaitGraph

__all__ = ["Obstacle", "WaitGraph"]

"""The `swarm` command."""

from swarm.cli._main import main

__all__ = ["main"]

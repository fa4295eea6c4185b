"""One process of `swarm run --processes N`, as the starter starts it."""

import sys

from swarm.cli._program import run_program

if __name__ == "__main__":
    target, storage, name, lifeline = sys.argv[1:]
    sys.exit(run_program(target, storage, name, int(lifeline)))

"""One process of `swarm run --processes N`, as the starter starts it."""

import os
import sys

from swarm.cli._program import run_program

if __name__ == "__main__":
    target, name, lifeline = sys.argv[1:]
    sys.exit(run_program(target, os.environ["SWARM_STORAGE"], name, int(lifeline)))

"""Things that go wrong in a simulation: plans of faults, and the seams they enter at.

`_plan` says what may go wrong and draws it; `_injector` counts occasions and makes it
happen. The seams are the classes that production takes from its runtime: `_agents` for
messages, turns and leases, `_events` for what the bus hands over. `_runtime` puts them
in, in a simulation only.
"""

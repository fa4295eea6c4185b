"""Validators: users' code that sees each document before it is written. No waiting."""

from collections.abc import Sequence

import attrs
import orjson

from swarm.model import ABSENT, AgentIdentity
from swarm.ports import Codec, View, Write
from swarm.state._access import Policy


def validated(
    policy: Policy,
    identity: AgentIdentity,
    view: View,
    writes: Sequence[Write],
    codec: Codec,
) -> Sequence[Write]:
    """Return the writes as the policy's validators let them through.

    Raises:
        AccessDenied: One of them was rejected.
    """
    if not policy.validators:
        return writes
    return [_validated(policy, identity, view, write, codec) for write in writes]


def _validated(
    policy: Policy, identity: AgentIdentity, view: View, write: Write, codec: Codec
) -> Write:
    document = view.find(write.path)
    old = ABSENT if document is None else document.value
    new = ABSENT if write.body is None else orjson.loads(write.body)
    sane = policy.validate(identity, write.path, old, new)
    if sane is new:
        # A validator may have changed the value it was shown; what it did not return
        # does not count.
        return write
    return attrs.evolve(write, body=codec.encode(sane))

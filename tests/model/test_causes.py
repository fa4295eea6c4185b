"""A cause with a trace of its own is otherwise the cause that it was made from."""

from swarm.model import Cause, with_trace


def test_a_cause_with_another_trace_has_the_ids_of_the_first():
    """An id that another process needs is given to both."""
    cause = Cause()
    traced = with_trace(cause, "00-1-2-01")
    traced.pin("c-elsewhere")
    assert cause.correlation_id == traced.correlation_id == "c-elsewhere"
    traced.root = 7
    assert (cause.root, cause.trace, traced.trace) == (7, None, "00-1-2-01")
    assert with_trace(traced, "00-1-2-01") is traced

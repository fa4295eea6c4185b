"""Histories out of Jepsen logs of one register."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from swarm.testing import Call, History

_LINE = re.compile(
    r"(?:^|\s)(\d+)\s+:(invoke|ok|fail|info)\s+:([\w-]+)"
    r"\s+(\[[^\]]*\]|\"[^\"]*\"|\S+)\s*(.*)$"
)
_TOKEN = re.compile(r'"[^"]*"|[^\s\[\],]+')
_WORDS = {"nil": None, "true": True, "false": False}


@attrs.frozen(kw_only=True)
class JepsenLine:
    """One event of a Jepsen log: `type` is invoke, ok, fail or info."""

    process: int
    type: str
    op: str
    value: Any
    error: str

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments that an invocation's value stands for."""
        if self.value is None:
            return ()
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @property
    def answered(self) -> bool:
        """Whether the line says what the object answered."""
        compared = self.op == "cas" and isinstance(self.value, tuple)
        refused = self.type == "fail" and compared and not self.error
        return self.type == "ok" or refused

    @property
    def result(self) -> Any:
        """The answer: for a `cas` whether it took place, else the value."""
        return self.type == "ok" if self.op == "cas" else self.value


def history_in(lines: Iterable[str]) -> History:
    """Return the history in a Jepsen log of one register.

    Reads lines of the form `process :type :f value`, whatever stands in front
    (`INFO  jepsen.util - 3  :ok  :cas  [1 2]`), and skips the rest. `nil` is None and
    `[1 2]` two arguments. A `:fail` did not happen, but for a `cas` that names its
    values: there the comparison failed, and it is answered False. An `:ok` that repeats
    the arguments, as a write's does, is answered None. `:info` is pending, and so is
    what the log leaves open.
    """
    history = History()
    calls: dict[int, Call] = {}
    for line in _parse(lines):
        if line.type == "invoke":
            calls[line.process] = history.invoke(line.process, line.op, *line.args)
            continue
        call = calls.pop(line.process)
        if line.answered:
            echo = line.op != "cas" and line.args == call.operation.args != ()
            history.ok(call, None if echo else line.result)
        elif line.type == "fail":
            history.fail(call)
    return history


def _parse(lines: Iterable[str]) -> Iterator[JepsenLine]:
    """The events in `lines`, other lines skipped (the nemesis has no number)."""
    for match in filter(None, map(_LINE.search, lines)):
        process, kind, op, value, error = match.groups()
        yield JepsenLine(
            process=int(process),
            type=kind,
            op=op,
            value=_parse_value(value),
            error=error.strip(),
        )


def _parse_value(text: str) -> Any:
    words = tuple(_parse_word(word) for word in _TOKEN.findall(text))
    return words if text.startswith("[") else words[0]


def _parse_word(word: str) -> Any:
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    return _WORDS.get(word, word.strip('"'))

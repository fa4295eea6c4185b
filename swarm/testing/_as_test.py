"""Make a test of a recorded run."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import orjson

from swarm.errors import InvalidValue
from swarm.system._recording import TAG

_VERSION: Final = 1
_PAUSE: Final = 0.05
"""A shorter pause of the program is taken for the time that its own code took."""

_LONGEST: Final = 2_000
"""The most inputs of a test."""

_INPUTS: Final = ("spawn", "ask", "tell", "publish", "submit", "set", "delete")


@attrs.define(kw_only=True)
class RecordedInput:
    """One input of a recorded run.

    Attributes:
        number: Its number, from 1.
        line: What was recorded at its beginning.
        began: When it began, in seconds from the beginning of the recording.
        end: What was recorded at its end; None: the run ended first.
        after: The inputs that had ended before it began, without those that these
            came after themselves.
        is_last: Whether its task asked nothing more.
    """

    number: int
    line: Mapping[str, Any]
    began: float
    end: Mapping[str, Any] | None = None
    after: tuple[int, ...] = ()
    is_last: bool = True

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The error it ended by, or None."""
        return None if self.end is None else self.end.get("error")


@attrs.frozen(kw_only=True)
class RecordedRun:
    """A recorded run, as `load_run_file` reads it.

    Attributes:
        start: The first line.
        inputs: The inputs, in the order in which they began.
        lines: All lines.
        ended: How the run ended; None: the file ends before that.
    """

    start: Mapping[str, Any]
    inputs: Sequence[RecordedInput]
    lines: Sequence[Mapping[str, Any]]
    ended: Mapping[str, Any] | None

    @property
    def failure(self) -> Mapping[str, Any] | None:
        """The error that the run ended by, or None."""
        if self.ended is None:
            return None
        failures = self.ended.get("failures") or ()
        error = self.ended.get("error")
        if error is not None and error["class"] != "asyncio.exceptions:CancelledError":
            return dict(error)
        return dict(failures[0]) if failures else None


def load_run_file(path: Path) -> RecordedRun:
    """Read a recording.

    Raises:
        OSError: The file cannot be read.
        InvalidValue: It is no recording, or one of another version.
    """
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidValue(f"{path}:{number} is no JSON: {error}") from None
        if not isinstance(line, dict) or not _is_line(line):
            raise InvalidValue(f"{path}:{number} is no line of a recording")
        lines.append(line)
    start = lines[0] if lines else {}
    if start.get("do") != "recording" or start.get("version") != _VERSION:
        raise InvalidValue(f"{path} is no recording of version {_VERSION}")
    inputs = {
        line["n"]: RecordedInput(number=line["n"], line=line, began=line["t"])
        for line in lines
        if line["do"] in _INPUTS
    }
    _order(lines, inputs)
    ended = next((line for line in lines if line["do"] == "ended"), None)
    return RecordedRun(
        start=start, inputs=tuple(inputs.values()), lines=lines, ended=ended
    )


def _is_line(line: Mapping[str, Any]) -> bool:
    """Return whether a line has what each line of its kind has."""
    what = line.get("do")
    is_numbered = what == "end" or what in _INPUTS
    return (
        isinstance(what, str)
        and (what == "recording" or type(line.get("t")) in (int, float))
        and (not is_numbered or type(line.get("n")) is int)
        and (what not in _INPUTS or type(line.get("task")) is int)
    )


def _order(
    lines: Sequence[Mapping[str, Any]], inputs: Mapping[int, RecordedInput]
) -> None:
    """Find what each input came after: inputs that overlapped are not ordered."""
    over: list[int] = []
    before: dict[int, set[int]] = {}
    last_of: dict[int, RecordedInput] = {}
    for line in lines:
        if line["do"] == "end" and line["n"] in inputs:
            inputs[line["n"]].end = line
            over.append(line["n"])
        elif line["do"] in _INPUTS:
            each = inputs[line["n"]]
            known: set[int] = set()
            after: list[int] = []
            for number in reversed(over):
                if number not in known:
                    after.append(number)
                    known |= {number, *before[number]}
            before[each.number] = known
            each.after = tuple(sorted(after))
            earlier = last_of.get(line["task"])
            if earlier is not None:
                earlier.is_last = False
            last_of[line["task"]] = each


# --- values as code -------------------------------------------------------------------


class CodeWriter:
    """Writes recorded values as Python, and collects what has to be imported."""

    def __init__(self) -> None:
        """Import nothing yet."""
        self._names: dict[str, set[str]] = {}

    def imports(self) -> Iterator[str]:
        """Yield the import statements, sorted."""
        for module in sorted(self._names):
            yield f"from {module} import {', '.join(sorted(self._names[module]))}"

    def use(self, module: str, name: str) -> str:
        """Return a name of a module, imported."""
        self._names.setdefault(module, set()).add(name)
        return name

    def name(self, place: str) -> str:
        """Return the expression for something at "module:qualified.name".

        Raises:
            InvalidValue: It cannot be imported.
        """
        module, _, qualified = place.partition(":")
        parts = qualified.split(".")
        if not all(map(_is_name, [*module.split("."), *parts])):
            raise InvalidValue(
                f"{place} cannot be imported by a test: define it at the top of a "
                "module"
            )
        if module == "builtins":
            return qualified
        self.use(module, parts[0])
        return qualified

    def value(self, value: Any) -> str:
        """Return the expression for a recorded value.

        Raises:
            InvalidValue: Its class or its content was not recorded.
        """
        if isinstance(value, list):
            return f"[{', '.join(map(self.value, value))}]"
        if not isinstance(value, dict):
            return repr(value)
        if TAG not in value:
            pairs = (f"{key!r}: {self.value(each)}" for key, each in value.items())
            return "{" + ", ".join(pairs) + "}"
        return self._tagged(value[TAG], value)

    def _tagged(self, tag: Any, value: Mapping[str, Any]) -> str:
        if tag in ("tuple", "set", "frozenset"):
            return f"{tag}({self.value(value['items'])})"
        if tag == "dict":
            return f"dict({self.value(value['items'])})"
        if tag == "int":
            return str(int(value["text"]))
        if tag == "float":
            return f"float({value['text']!r})"
        if tag == "bytes":
            return repr(bytes.fromhex(value["hex"]))
        if tag == "ref":
            return f"run.ref({value['name']!r})"
        if tag == "enum":
            return f"{self.name(value['class'])}[{value['name']!r}]"
        if tag == "name":
            return self.name(value["of"])
        if tag in ("datetime", "timedelta"):
            self.use("datetime", tag)
            if tag == "datetime":
                return f"datetime.fromisoformat({value['text']!r})"
            return f"timedelta(seconds={float(value['seconds'])!r})"
        if tag == "new":
            fields = (
                f"{name}={self.value(each)}"
                for name, each in value["fields"].items()
                if _is_name(name)
            )
            return f"{self.name(value['class'])}({', '.join(fields)})"
        raise InvalidValue(
            f"a {value.get('type')} is not recorded, only its text: {value.get('repr')}"
        )


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


# --- the test -------------------------------------------------------------------------


def source_of_test(run: RecordedRun, source: str) -> str:
    """Return a test that fails when the failure of a recorded run comes back.

    Args:
        run: The run.
        source: What the recording is called in the test's text.

    Raises:
        InvalidValue: The run did not fail, or the test would need what was not
            recorded.
    """
    failure = run.failure
    if failure is None:
        raise InvalidValue(
            "the recorded run did not fail, so there is nothing to test for"
            if run.ended is not None
            else "the recording has no end: the process ended before its swarm"
        )
    if len(run.inputs) > _LONGEST:
        raise InvalidValue(
            f"the run has {len(run.inputs)} inputs; a test has {_LONGEST} at most"
        )
    code = CodeWriter()
    code.use("swarm.testing", "Rerun")
    code.use("swarm.testing", "simulate")
    body = [*_body(run, failure, code)]
    search = _search(run, code)
    name = re.sub(r"\W+", "_", Path(source).stem).strip("_").lower() or "run"
    return "\n".join(
        [
            *_docstring(run, failure, source),
            "",
            *code.imports(),
            "",
            "",
            f"@simulate({search})",
            f"async def test_{name}() -> None:",
            *(f"    {line}" for line in body),
            "",
        ]
    )


def _docstring(
    run: RecordedRun, failure: Mapping[str, Any], source: str
) -> Iterator[str]:
    yield f'"""The run recorded in {_one_line(source)}, asked again in many schedules.'
    yield ""
    yield f"It ended by {_kind(failure)}: {_one_line(failure['message'])}"
    yield ""
    yield "Not recorded, so not repeated: what agents get from elsewhere (I/O, chance,"
    yield "clocks), locks, claims, handlers and streams of the program, agents that it"
    yield "stopped or killed, the storage, the policy and interceptors. The program is"
    yield 'imported: what runs it belongs under `if __name__ == "__main__":`.'
    yield '"""'
    turns = [line for line in run.lines if line["do"] == "turn"]
    if turns:
        yield ""
        yield "# The turns began in this order:"
        for line in turns[:12]:
            said = _one_line(f"{line['agent']}: {line['method']}")
            yield f"#   {float(line['t']):9.3f} s  {said}"
        if len(turns) > 12:
            yield f"#   and {len(turns) - 12} more"


def _search(run: RecordedRun, code: CodeWriter) -> str:
    """Return the arguments of `simulate`: leases that expired may expire again."""
    expired = sorted(
        {
            str(line["target"])
            for line in run.lines
            if line["do"] == "fault" and line.get("kind") == "expire"
        }
    )
    if not expired:
        return "schedules=1000"
    faults = code.use("swarm.testing", "Faults")
    return f"schedules=1000, faults={faults}(expire={expired!r})"


def _one_line(text: Any) -> str:
    """Return text of a recording for a comment or docstring: it ends nothing there."""
    said = " ".join(str(text).split())[:200]
    return said.replace("\\", "/").replace('"', "'")


def _kind(error: Mapping[str, Any]) -> str:
    return _one_line(error["class"].partition(":")[2])


def _body(
    run: RecordedRun, failure: Mapping[str, Any], code: CodeWriter
) -> Iterator[str]:
    config = run.start.get("config") or {}
    options = ", ".join(_named(config, code))
    if options:
        options = f"config={code.use('swarm', 'SwarmConfig')}({options})"
    yield f"run = Rerun({options})"
    by_number = {each.number: each for each in run.inputs}
    escaped = None
    for each in run.inputs:
        error = each.error
        if error is not None and each.is_last and error == failure:
            escaped = each
        yield from _step(each, by_number, failure, code)
    yield from _check(run, failure, code, escaped)


def _step(
    each: RecordedInput,
    others: Mapping[int, RecordedInput],
    failure: Mapping[str, Any],
    code: CodeWriter,
) -> Iterator[str]:
    settings = [str(each.number)]
    if each.after:
        settings.append(f"after={[*each.after]}")
    ends = [(others[n].end or {}).get("t", 0.0) for n in each.after]
    pause = each.began - max(ends, default=0.0)
    if pause >= _PAUSE:
        settings.append(f"pause={round(pause, 3)}")
    error = each.error
    if error is not None and not (each.is_last and error == failure):
        settings.append(f"may_raise={code.name(error['class'])}")
    try:
        call = _call(each.line, code)
    except InvalidValue as problem:
        raise InvalidValue(f"input {each.number}: {problem}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InvalidValue(f"input {each.number} is damaged: {problem!r}") from None
    note = "" if each.end is not None else "  # had not ended"
    yield f"run.step({', '.join(settings)}).{call}{note}"


def _call(line: Mapping[str, Any], code: CodeWriter) -> str:
    what = line["do"]
    if what == "spawn":
        arguments = [code.value(line["factory"]), *map(code.value, line["args"])]
        return f"spawn({', '.join([*arguments, *_named(line['options'], code)])})"
    if what in ("ask", "tell"):
        if line["method"] is None:
            raise InvalidValue(f"agent {line['agent']!r} lived in another process")
        arguments = [repr(line["agent"]), code.name(line["method"])]
        arguments += map(code.value, line["args"])
        return f"{what}({', '.join([*arguments, *_named(line['kwargs'], code)])})"
    if what == "publish":
        key = "" if line["key"] is None else f", key={line['key']!r}"
        return f"publish({code.value(line['payload'])}{key})"
    if what == "submit":
        options = dict(line["options"])
        if line["metadata"] is not None:
            options["metadata"] = line["metadata"]
        arguments = [repr(line["kind"]), code.value(line["payload"])]
        return f"submit({', '.join([*arguments, *_named(options, code)])})"
    if what == "set":
        return f"set({line['path']!r}, {line['value']!r})"
    return f"delete({line['path']!r})"


def _named(options: Mapping[str, Any], code: CodeWriter) -> list[str]:
    for name in options:
        if not _is_name(name):
            raise InvalidValue(f"{name!r} is no name of an argument")
    return [f"{name}={code.value(value)}" for name, value in options.items()]


def _check(
    run: RecordedRun,
    failure: Mapping[str, Any],
    code: CodeWriter,
    escaped: RecordedInput | None,
) -> Iterator[str]:
    assert run.ended is not None  # it has failed
    ends = [each.end["t"] for each in run.inputs if each.end is not None]
    pause = run.ended["t"] - max(ends, default=0.0)
    play = f"run.play(pause={round(pause, 3)})" if pause >= _PAUSE else "run.play()"
    kind = _kind(failure)
    is_of_swarm = run.ended.get("error") != failure
    if escaped is not None or is_of_swarm:
        what = f"step {escaped.number}" if escaped is not None else "an agent"
        yield f"await {play}  # raises {kind} when {what} does, as recorded"
        return
    yield f"outcome = await {play}"
    facts = [*_facts(run, code)]
    if not facts:
        raise InvalidValue(
            f"the program ended by {kind} of its own, and nothing that was recorded "
            "tells such a run from a good one: let an agent find the failure, or "
            "write what is wrong into the state before the end"
        )
    yield f"# The program itself raised {kind} after it had seen this:"
    yield "has_come_back = ("
    for number, fact in enumerate(facts):
        yield f"    {'and ' if number else ''}{fact}"
    yield ")"
    yield 'assert not has_come_back, "the recorded failure has come back"'


def _facts(run: RecordedRun, code: CodeWriter) -> Iterator[str]:
    """Yield what tells the recorded failure: the state, and the newest answer."""
    assert run.ended is not None  # it has failed
    state = run.ended.get("state")
    if state:
        yield f"outcome.state == {state!r}"
    answered = [
        each
        for each in run.inputs
        if each.line["do"] == "ask"
        and each.is_last
        and each.end is not None
        and each.end.get("result") is not None
    ]
    for each in answered[-4:]:
        assert each.end is not None  # see above
        try:
            value = code.value(each.end["result"])
        except InvalidValue:
            continue
        yield f"outcome.results[{each.number}] == {value}"

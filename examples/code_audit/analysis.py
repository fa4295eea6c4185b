"""Reading one Python file with `ast`: plain functions, no agents, no waiting."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .findings import FileReport, Finding, Function

LONG_FUNCTION = 60
COMPLEX = 10
MARKS = ("TODO", "FIXME", "XXX", "HACK")

_BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.IfExp,
    ast.Assert,
    ast.comprehension,
    ast.match_case,
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def analyse(folder: Path, file: Path) -> FileReport:
    """Return all that can be said of one file by looking at it alone."""
    name = file.relative_to(folder).as_posix()
    is_test = file.name.startswith("test_") or "tests" in file.relative_to(folder).parts
    try:
        with tokenize.open(file) as source:
            text = source.read()
        tree = ast.parse(text, name)
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        broken = Finding("cannot be parsed", name, line, str(error), weight=10)
        return FileReport(name, 0, 0, (), 0, (broken,), frozenset(), is_test)
    functions = tuple(measure(node) for node in ast.walk(tree) if _is_function(node))
    findings = [
        *_marks(name, text),
        *_handlers(name, tree),
        *_defaults(name, tree),
        *_wildcards(name, tree),
        *_oversized(name, functions),
    ]
    return FileReport(
        file=name,
        lines=text.count("\n"),
        code_lines=_code_lines(text),
        functions=functions,
        classes=sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        findings=tuple(findings),
        mentions=frozenset(_mentions(tree)),
        is_test=is_test,
    )


def measure(node: ast.AST) -> Function:
    """Return the size and cyclomatic complexity (McCabe, 1976) of a function."""
    assert isinstance(node, _FUNCTIONS)
    return Function(
        name=node.name,
        line=node.lineno,
        lines=(node.end_lineno or node.lineno) - node.lineno + 1,
        complexity=1 + sum(_paths(child) for child in ast.walk(node)),
        is_public=not node.name.startswith("_"),
        has_docstring=ast.get_docstring(node) is not None,
    )


def describe(folder: Path, file: str, line: int) -> str:
    """Return what the branches of the function at `line` are, in words."""
    tree = ast.parse((folder / file).read_bytes(), file)
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS) and node.lineno == line:
            counts: dict[str, int] = {}
            for child in ast.walk(node):
                if isinstance(child, _BRANCHES):
                    kind = type(child).__name__
                    counts[kind] = counts.get(kind, 0) + 1
            most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
            return ", ".join(f"{count} x {kind}" for kind, count in most)
    return "it has moved since it was read"


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, _FUNCTIONS)


def _paths(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return int(isinstance(node, _BRANCHES))


def _code_lines(text: str) -> int:
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
    skip |= {tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type not in skip})


def _marks(name: str, text: str) -> Iterator[Finding]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and any(m in token.string for m in MARKS):
            yield Finding("left to do", name, token.start[0], token.string[:100])


def _handlers(name: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type is not None else "everything"
        if caught not in ("everything", "Exception", "BaseException"):
            continue
        raises = any(isinstance(child, ast.Raise) for child in ast.walk(node))
        swallows = all(isinstance(child, ast.Pass) for child in node.body)
        if swallows:
            yield Finding("error swallowed", name, node.lineno, f"catches {caught}", 5)
        elif not raises:
            yield Finding("broad except", name, node.lineno, f"catches {caught}", 2)


def _defaults(name: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, _FUNCTIONS):
            continue
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if isinstance(default, ast.List | ast.Dict | ast.Set):
                text = f"{node.name}(... = {ast.unparse(default)})"
                yield Finding("mutable default", name, default.lineno, text, 4)


def _wildcards(name: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield Finding("wildcard import", name, node.lineno, f"from {node.module}")


def _oversized(name: str, functions: tuple[Function, ...]) -> Iterator[Finding]:
    for function in functions:
        if function.lines > LONG_FUNCTION:
            text = f"{function.name}: {function.lines} lines"
            yield Finding("long function", name, function.line, text, 2)


def _mentions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]

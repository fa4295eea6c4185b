"""Names in the package: the field's words, and each means one thing."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "swarm"

PRIVATE = [
    "AtWork",
    "Bucket",
    "Burying",
    "Caretaker",
    "Carrier",
    "Crowd",
    "Desk",
    "Feed",
    "Failing",
    "Freezer",
    "Insight",
    "Keeper",
    "Lane",
    "Ledger",
    "Letter",
    "LinePlace",
    "LockLine",
    "Loops",
    "Mark",
    "Meeting",
    "Moves",
    "Muster",
    "Office",
    "Permits",
    "Pin",
    "Pins",
    "Rest",
    "Sealed",
    "Sight",
    "Tenant",
    "Tenure",
    "Together",
    "Troubles",
    "Turnstile",
    "Victim",
    "Want",
]
"""Class names of a private language, which had to be explained to each reader."""

WORDS = [
    "graves",
    "made_of",
    "strike",
    "house",
    "tenure",
    "muster",
    "ledger",
    "patience",
]
"""Words that a function, method or module must not have in its name."""


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    return [
        (file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8")))
        for file in sorted(ROOT.rglob("*.py"))
    ]


def classes() -> dict[str, list[str]]:
    found = defaultdict(list)
    for file, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{file}:{node.lineno}")
    return found


def test_classes_are_called_by_the_words_of_the_field():
    found = classes()
    assert {name: found[name] for name in PRIVATE if name in found} == {}


def test_functions_and_modules_are_called_by_the_words_of_the_field():
    wrong = []
    for file, tree in modules():
        names = [file.stem]
        names += [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        for name in names:
            if set(name.lower().strip("_").split("_")) & set(WORDS):
                wrong.append(f"{file}: {name}")
    assert not wrong

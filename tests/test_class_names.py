"""One class name means one thing in the whole package."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "swarm"
BUNDLED = PACKAGE / "cli" / "code_audit"  # an example, which is a program of its own


def test_no_class_name_stands_for_two_classes():
    places = defaultdict(list)
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.is_relative_to(BUNDLED):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                where = file.relative_to(PACKAGE.parent)
                places[node.name].append(f"{where}:{node.lineno}")
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice == {}

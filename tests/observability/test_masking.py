"""What may be shown: secrets and sizes."""

import attrs
import pytest

from swarm.model import ABSENT, Priority
from swarm.observability import diff, masked


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "API_KEY",
        "apiKey",
        "x-api-key",
        "Authorization",
        "refreshToken",
        "client_secret",
        "Set-Cookie",
        "aws.secret_key",
        "passwd",
    ],
)
def test_a_value_under_a_secret_key_is_masked(name):
    assert masked({name: "hunter2"}) == {name: "***"}
    assert masked({name: {"deep": ["hunter2"]}}) == {name: "***"}


@pytest.mark.parametrize(
    "name", ["max_tokens", "token_count", "author", "keyboard", "monkey", "key"]
)
def test_a_value_under_a_plain_key_is_shown(name):
    assert masked({name: "shown"}) == {name: "shown"}


def test_a_secret_that_is_a_number_is_masked_and_a_fencing_token_is_not():
    assert masked({"password": 1234, "token": 17}) == {"password": "***", "token": 17}


def test_secrets_inside_text_are_masked():
    assert masked("redis://me:pw@host:1/0") == "redis://***@host:1/0"
    assert masked("Authorization: Bearer abcdef123456") == "Authorization: Bearer ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=h password=p@ss)w; user=bob", "host=h password=***; user=bob"),
        ('{"api_key": "a\\"b", "n": 1}', '{"api_key": ***, "n": 1}'),
        (r"said {\"apiKey\": \"abc\"}", r"said {\"apiKey\": ***}"),
        ("Login(user='ada', password='x y')", "Login(user='ada', password=***)"),
        ("secrets: ['a', 'b'] of c", "secrets: *** of c"),
        ("Authorization: Basic abc", "Authorization: Basic ***"),
        ("https://h/x?token=abc&y=1", "https://h/x?token=***&y=1"),
        ("cut in the middle: password='unfin", "cut in the middle: password=***"),
    ],
)
def test_a_value_after_a_secret_key_in_a_text_is_masked(text, shown):
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "StaleLease: token=17 is stale",
        "max_tokens=12, author: ada",
        "password=None",
        "KeyError: 'token'",
        "Wrong password:\n  File x.py",
    ],
)
def test_a_text_without_secrets_is_shown_as_it_is(text):
    assert masked(text) == text


def test_a_cut_uncovers_no_part_of_a_secret():
    url = "postgres://me:" + "p" * 5_000 + "@host"
    assert "pp" not in masked(url, text=100)
    assert "pp" not in masked("x" * 590 + url, text=100)
    key = "api_key=" + "p" * 5_000
    assert masked(key, text=100) == "api_key=***"


@pytest.mark.parametrize("bound", ["text", "items", "depth"])
def test_a_wrong_bound_is_refused(bound):
    with pytest.raises(ValueError, match=f"{bound} is 0 or more, not -1"):
        masked("x", **{bound: -1})
    with pytest.raises(TypeError, match=f"{bound} is a whole number"):
        masked("x", **{bound: 1.5})


def test_sizes_are_bounded_and_the_cut_is_marked():
    assert masked("x" * 10, text=5) == "xxxx…"
    assert masked(list(range(5)), items=2) == [0, 1, "… 3 more"]
    assert masked({"a": 1, "b": 2, "c": 3}, items=2) == {"a": 1, "b": 2, "…": "1 more"}
    assert masked([[[1]]], depth=2) == [["…"]]


def test_what_is_no_json_is_shown_by_its_repr():
    assert masked({"when": 1 + 2j}) == {"when": "(1+2j)"}


def test_objects_with_fields_are_shown_by_their_fields():
    @attrs.frozen
    class Login:
        user: str
        password: str
        level: Priority = Priority.HIGH

    shown = masked([Login("ada", "hunter2")])
    assert shown == [{"user": "ada", "password": "***", "level": 2}]


def test_a_diff_names_each_place():
    old = {"a": 1, "b": [1, 2], "gone": True, "token": "t1"}
    new = {"a": 1.0, "b": [1, 3, 4], "token": "t2"}
    assert diff(old, new) == [
        {"op": "change", "path": "a", "old": 1, "new": 1.0},
        {"op": "change", "path": "b[1]", "old": 2, "new": 3},
        {"op": "add", "path": "b[2]", "new": 4},
        {"op": "remove", "path": "gone", "old": True},
        {"op": "change", "path": "token", "old": "***", "new": "***"},
    ]


def test_a_diff_of_the_whole_value_has_an_empty_path():
    assert diff(ABSENT, 1) == [{"op": "add", "path": "", "new": 1}]
    assert diff(None, None) == []


def test_a_long_diff_is_cut():
    found = diff({}, {f"k{n:03}": n for n in range(150)})
    assert len(found) == 101
    assert found[-1] == {"op": "more"}

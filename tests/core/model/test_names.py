"""Which names an instance may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.model.names import MAX_NAME_BYTES, name_problem

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9_])?", fullmatch=True)


@given(st.lists(LABEL, min_size=1, max_size=4).map(".".join))
def test_dotted_labels_are_names_up_to_the_limit(name: str) -> None:
    assert (name_problem(name) is None) == (len(name) <= MAX_NAME_BYTES)


@given(st.text(max_size=80))
def test_what_is_allowed_is_safe_as_a_file_name_and_as_an_argument(name: str) -> None:
    if name_problem(name) is None:
        assert name.isascii()
        assert name[0] not in "-._"
        assert ".." not in name
        assert not set(name) & set("/\\\0\n\t ,='\"$;&|*?~")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../etc",
        "-rf",
        "a-",
        "a\n",
        "a\nb",
        "web 1",
        "Web1",
        "wéb",
        "a..b",
        ".a",
        "a.",
        "_a",
        "�",
        "x" * 64,
        ".".join(["x" * 63] * 4),
        "a,b",
        "a=b",
        "a%b",
        "\u212a",
    ],
)
def test_what_could_be_a_path_an_option_or_two_lines_is_refused_with_advice(name: str) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert problem.path == "name"
    assert problem.todo is not None
    assert "\n" not in str(problem)
    assert len(str(problem)) < 300


@pytest.mark.parametrize("name", [None, 7, b"web1", ["web1"], True])
def test_what_is_no_text_is_refused(name: object) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert str(problem).startswith("name: must be a string, got ")


def test_the_message_has_the_length() -> None:
    problem = name_problem("x" * 300)
    assert problem is not None
    assert "300 characters" in problem.what

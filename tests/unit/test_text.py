import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.report.page import page, readable, written
from peftbench.text import Destination, clean, clean_tree, fitted, visible


@given(st.text(max_size=40), st.sampled_from(Destination))
def test_any_text_becomes_one_printable_line_that_every_encoding_can_carry(text: str, destination: Destination) -> None:
    found = clean(text, destination)
    assert found.isprintable()
    for encoding in ("utf-8", "cp1252", "latin-1", "ascii"):
        fitted(found, encoding).encode(encoding)


@given(st.text(st.characters(categories=("L", "N")), max_size=40), st.sampled_from(Destination))
def test_plain_words_stay_as_they_are(text: str, destination: Destination) -> None:
    assert clean(text, destination) == text


@pytest.mark.parametrize(
    ("destination", "text", "cleaned"),
    [
        (Destination.TERMINAL, "a.py::one[a]\n::error title=x::y", r"a.py::one[a]\n: :error title=x::y"),
        (
            Destination.TERMINAL,
            "::ERROR::y ##[error]z ::stop-commands::t",
            ": :ERROR::y ## [error]z : :stop-commands::t",
        ),
        (Destination.TERMINAL, "\x1b[31m\x9b\u202e\ud800", r"\x1b[31m\x9b\u202e\ud800"),
        (Destination.GITHUB, "5 %\r\n::error::x", r"5 %25\r\n::error::x"),
        (Destination.GITHUB_PROPERTY, "a::b,c%", "a%3A%3Ab%2Cc%25"),
        (
            Destination.MARKDOWN,
            "<script>|`a`|@me [b](c)\n&lt;",
            r"&lt;script&gt;\|\`a\`\|@&#8203;me \[b\](c)\\n&amp;lt;",
        ),
        (Destination.EXPORT, "<b>\x00", r"<b>\x00"),
    ],
)
def test_what_would_be_markup_or_a_command_is_escaped(destination: Destination, text: str, cleaned: str) -> None:
    assert clean(text, destination) == cleaned


def test_trees_are_cleaned_keys_included() -> None:
    data = {"a\n": ["b\x1b", {"c": ("\ud800", 1, None, True)}], "d": 0.5}
    assert clean_tree(data, Destination.EXPORT) == {r"a\n": [r"b\x1b", {"c": [r"\ud800", 1, None, True]}], "d": 0.5}


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "--|...+-x e? \\xdf \\u4e2d"), ("latin-1", "--|...\xb1\xd7 \xe9? \xdf \\u4e2d"), ("utf-8", None)],
)
def test_what_an_encoding_lacks_is_written_in_ascii(encoding: str, shown: str | None) -> None:
    text = "\u2500\u2500\u2502\u2026\xb1\xd7 \xe9? \xdf \u4e2d"
    expected = text if shown is None else shown
    assert fitted(text, encoding) == expected
    assert fitted(text, "no such encoding") == text
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with readable(stream, io.StringIO()):
        stream.write(text)
    assert stream.errors == "strict"
    stream.seek(0)
    assert stream.read() == expected


def test_a_page_takes_text_as_it_stands() -> None:
    sheet = page(width=40)
    sheet.print("[bold]a[/] :bug: 12  ")
    assert written(sheet) == "[bold]a[/] :bug: 12\n"
    assert visible("a\u2028b") == r"a\u2028b"

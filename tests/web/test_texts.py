"""Texts of tasks: what acts or misleads is shown by its name."""

from __future__ import annotations

import pytest

from tasker.web import texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("<b>&amp;", "<b>&amp;"),
        ("\x1b[31mred\x1b[0m \x1b[1;38;5;9mbold", "red bold"),
        ("\x1b]0;title\x07after\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "afterlink"),
        ("\x1bPq#0\x1b\\x\x1bcy\x1b(Bz", "xyz"),
        ("\x1b", "⟨ESC⟩"),
        ("a\x00b\x07c\x08d\x7fe", "a⟨NUL⟩b⟨BEL⟩c⟨BS⟩d⟨DEL⟩e"),
        ("10 %\r20 %\r\n30 %", "10 %\n20 %\n30 %"),
        ("user\u202etxt.exe", "user⟨RLO⟩txt.exe"),
        ("\u2066\u2067\u2068\u2069\u202a\u202b\u202c\u202d", "⟨LRI⟩⟨RLI⟩⟨FSI⟩⟨PDI⟩⟨LRE⟩⟨RLE⟩⟨PDF⟩⟨LRO⟩"),
        ("\u200e\u200f\u061c\u200b\ufeff", "⟨LRM⟩⟨RLM⟩⟨ALM⟩⟨ZWSP⟩⟨BOM⟩"),
        ("\u2028\u2029\u00ad", "⟨LINE SEPARATOR⟩⟨PARAGRAPH SEPARATOR⟩⟨SOFT HYPHEN⟩"),
        ("\x85\x9b", "⟨U+0085⟩⟨U+009B⟩"),
        ("\U000e0041\ud800", "⟨TAG LATIN CAPITAL LETTER A⟩⟨U+D800⟩"),
        ("👨\u200d👩 \u05d0 café", "👨\u200d👩 \u05d0 café"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert texts.plain(text) == expected


def test_line() -> None:
    assert texts.line("a\n\n  b\tc ") == "a b c"
    assert texts.line("x" * 300) == "x" * 300
    assert texts.line("x" * 301) == "x" * 300 + "…"
    assert texts.line("x" * 10_000_000, 5) == "xxxxx…"


def test_no_more_of_a_line_is_named_than_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    named = []
    monkeypatch.setattr(texts, "_name", lambda found: named.append(found[0]) or "?")
    assert texts.line("\x01" * 10_000, 100) == "?" * 100 + "…"
    assert len(named) <= 101
    assert texts.line("\x1b[31m" * 50 + "red", 100) == "red"  # what is dropped does not count


def test_json_line() -> None:
    assert texts.json_line(None) == ""
    assert texts.json_line(b'{\n  "a": 1\n}') == '{ "a": 1 }'
    assert texts.json_line(b'"' + "é".encode() * 10_000_000) == '"' + "é" * 299 + "…"
    assert texts.json_line(b"\xff\xfe") == "\ufffd\ufffd"


def test_shown() -> None:
    assert texts.shown("abc") == ("abc", 0)
    assert texts.shown("x" * (texts.SHOWN + 7)) == ("x" * texts.SHOWN, 7)


def test_pretty_json() -> None:
    assert texts.pretty_json(b'{"a":[1.10,123456789012345678901234567890]}').text == (
        '{\n  "a": [\n    1.10,\n    123456789012345678901234567890\n  ]\n}'
    )
    assert texts.pretty_json(b"no json").text == "no json"
    assert texts.pretty_json(None).text == ""
    assert texts.pretty_json(b"[" + b"1," * 400_000 + b"1]").left_out > 0

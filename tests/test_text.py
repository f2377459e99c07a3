import sys
from unicodedata import category

import pytest

from mtrl.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("outputs/mt1/reach-v3 [1,2] José 学习 ✓ $x$ \\n", "outputs/mt1/reach-v3 [1,2] José 学习 ✓ $x$ \\n"),
        ("\x1b[31mred\x1b]0;title\x07", "?[31mred?]0;title?"),
        ("two\nlines\r\nand\ta tab\u2028\x85\xa0end", "two lines  and a tab  \xa0end"),
        ("\u202egnp.exe\u200b\ufeff\x00\x9b1m", "?gnp.exe????1m"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf?"),
        (ValueError("a\x1bb"), "a?b"),
        ("x" * 10**6, "x" * 5000 + "..."),
    ],
)
def test_what_is_shown_is_one_line_that_no_terminal_obeys(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_no_character_at_all_is_obeyed():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = "".join(printable(everything[i : i + 5000]) for i in range(0, len(everything), 5000))
    assert len(shown) == len(everything)
    # No control, format or separating character, no half of one, none that is not assigned.
    assert {category(c)[0] for c in shown} <= set("LMNPSZ")
    assert not {category(c) for c in shown} & {"Zl", "Zp"}

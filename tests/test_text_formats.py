"""Foreign text in documents is shown as it is: what a library reads back is the text."""

import re

import pytest

from slotcon_plugin.evaluation.evaluation_report import Run, score_table
from slotcon_plugin.runtime.text_formats import latex_text, markdown_cell, markdown_text, one_line

TEXTS = [
    "plain text, v1.5 (a_b) – 70.5 ± 0.7 †",
    "=cmd|' /C calc'!A0",
    "a | b || c",
    "<script>alert(1)</script> <!-- x -->",
    "[x](javascript:alert(1)) ![y](http://x/y.png) <http://x>",
    "https://evil.example www.evil.example a@b.example @somebody",
    "*a* **b** _c_ __d__ a_b_c ~e~ ~~f~~ `g` ``h`` $x^2$",
    "# a",
    "- a",
    "+ a",
    "1. a",
    "12) a",
    "> a",
    "---",
    "===",
    "&lt; &#60; &amp; a & b",
    r"C:\\x \\* \\\\| \\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_the_text(text):
    html = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False}).render
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace('"', "&quot;")
    assert html(markdown_text(text)) == f"<p>{escaped}</p>\n"
    assert html(f"- {markdown_text(text)}") == f"<ul>\n<li>{escaped}</li>\n</ul>\n"
    table = html(f"| a | b |\n|---|---|\n| {markdown_cell(text)} | c |\n")
    assert re.findall("<td>(.*)</td>", table) == [escaped, "c"]


def test_links_are_not_made_of_addresses():
    """GitHub links bare addresses and names of users."""
    shown = markdown_text("https://x.example www.x.example a@b.example @c")
    assert shown == r"https\://x.example www\.x.example a\@b.example \@c"


def test_a_text_is_one_line_without_control_characters():
    assert (
        one_line("a\n\n# b\tc\r\x1b[31md\x00\u202e\udcff")
        == "a # b c \ufffd[31md\ufffd\ufffd\ufffd"
    )


def test_latex_has_no_command_of_the_text():
    text = r"\input{/etc/passwd} $x$ 50% #1 a_b ~ ^ & [1] *"
    shown = latex_text(text)
    assert shown == (
        r"\textbackslash{}input\{/etc/passwd\} \$x\$ 50\% \#1 a\_b \~{} \^{} \& {[}1{]} {*}"
    )


def test_names_in_evaluation_tables_are_text():
    runs = [Run(name, "", dict(accuracy=50.0, miou=None)) for name in ("1e5", "a|b\n|c|", "<b>")]
    lines = score_table(runs).splitlines()
    assert [line.split("|", 2)[1].strip() for line in (lines[2], lines[4])] == ["1e5", r"\<b>"]
    assert r"a\|b \|c\|" in lines[3] and all(line.count("50.00") == 1 for line in lines[2:])

"""The Go templates of --format."""

import pytest

from moldar.cli.templates import TemplateError, render, rows

DATA = {
    "ID": "abc",
    "Size": 12,
    "On": True,
    "None": None,
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"x": "1", "a": "2"}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID}}", "abc"),
        ("{{ .ID }}:{{.Size}}", "abc:12"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:2 x:1]"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .}}", None),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ("{{range .Config.Env}}{{.}};{{end}}", "A=1;B=2;"),
        ("{{range .Config.Env}}{{$.ID}}{{.}} {{end}}", "abcA=1 abcB=2 "),
        ("{{if .On}}yes{{else}}no{{end}}", "yes"),
        ("{{if not .On}}yes{{else if eq .Size 12}}twelve{{else}}no{{end}}", "twelve"),
        ("{{with .Config}}{{len .Env}}{{end}}", "2"),
        ("{{index .Config.Env 1}}", "B=2"),
        ('{{index .Config.Labels "x"}}', "1"),
        ("{{.ID | upper | printf `<%s>`}}", "<ABC>"),
        ("{{upper (slice .ID 0 2)}}", "AB"),
        ("a {{- .ID -}} b", "aabcb"),
        ("{{.None}} {{.On}}", "<nil> true"),
        ("{{/* nothing */}}x", "x"),
        ("{{.ID}}\\t{{.Size}}", "abc\t12"),
    ],
)
def test_render(template: str, text: str | None) -> None:
    result = render(template, DATA)
    assert text is None or result == text


@pytest.mark.parametrize(
    "template", ["{{.Nope}}", "{{", "{{if .ID}}", "{{end}}", "{{nope .ID}}", "{{}}", "{{.ID.X}}"]
)
def test_mistakes_are_named(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, DATA)


def test_table_gives_headings_and_columns() -> None:
    text = rows("table {{.ID}}\\t{{.Size}}", [{"ID": "abcdef", "Size": "1"}], {"ID": "IMAGE ID"})
    assert text.splitlines() == ["IMAGE ID   SIZE", "abcdef     1"]

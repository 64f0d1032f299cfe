"""The part of Go's text/template that people use with `--format`.

Fields (`{{.Config.Env}}`), pipes, `json join lower upper title split truncate len index print println printf slice`,
`if/else`, `range`, `with`, `eq ne not and or`, literals, `table` in front, and trim marks. Values are plain data:
dicts, lists, strings, numbers. A field that takes arguments, such as `.Label "key"`, is a function.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from moldar.errors import UserMistake

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|\(|\)|\||[^\s()|"`]+')

Node = tuple[Any, ...]


class TemplateError(UserMistake):
    """The text given to --format is not a template that we know."""

    def __init__(self, why: str) -> None:
        super().__init__(f"template parsing error: {why}")


def render(template: str, data: Any) -> str:
    """`template` filled in with `data`; TemplateError when it is malformed."""
    if template == "json":
        return json.dumps(data, ensure_ascii=False)
    text = template.replace("\\t", "\t").replace("\\n", "\n")
    nodes, ending = _parse(iter(_split(text)), ())
    assert not ending
    return _render(nodes, data, data)


def rows(template: str, items: list[dict[str, Any]], headings: dict[str, Any]) -> str:
    """`--format` of a listing: a line for each item; `table` in front adds headings and columns."""
    if not template.startswith("table"):
        return "\n".join(render(template, item) for item in items)
    from moldar.cli.tables import table

    body = template.removeprefix("table").strip()
    names: dict[str, Any] = {key: headings.get(key, key.upper()) for key in (items[0] if items else headings)}
    header = render(body, {**headings, **names}).split("\t")
    return table(header, [_pad(render(body, item).split("\t"), len(header)) for item in items])


def _pad(cells: list[str], width: int) -> list[str]:
    return [*cells, *[""] * (width - len(cells))][:width]


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of ("text" | "action", content)."""
    position = 0
    while True:
        opening = text.find("{{", position)
        if opening < 0:
            yield "text", text[position:]
            return
        closing = text.find("}}", opening)
        if closing < 0:
            raise TemplateError("unclosed action {{")
        before, action = text[position:opening], text[opening + 2 : closing]
        if action.startswith("- "):
            before, action = before.rstrip(), action[2:]
        yield "text", before
        position = closing + 2
        if action.endswith(" -"):
            action = action[:-2]
            position += len(text[position:]) - len(text[position:].lstrip())
        yield "action", action.strip()


def _parse(parts: Iterator[tuple[str, str]], stops: tuple[str, ...]) -> tuple[list[Node], str]:
    nodes: list[Node] = []
    for kind, content in parts:
        if kind == "text":
            nodes.append(("text", content))
            continue
        word, _, rest = content.partition(" ")
        if word in ("end", "else"):
            if word not in stops:
                raise TemplateError(f"unexpected {{{{{content}}}}}")
            return nodes, content
        if word in ("if", "range", "with"):
            nodes.append(_block(parts, word, rest))
        elif not content.startswith("/*"):
            nodes.append(("print", _tokens(content)))
    if stops:
        raise TemplateError("unexpected EOF: an {{if}}, {{range}} or {{with}} lacks its {{end}}")
    return nodes, ""


def _block(parts: Iterator[tuple[str, str]], word: str, condition: str) -> Node:
    body, ending = _parse(parts, ("end", "else"))
    otherwise: list[Node] = []
    if ending.startswith("else if"):
        otherwise = [_block(parts, "if", ending.removeprefix("else if").strip())]
    elif ending == "else":
        otherwise, _ = _parse(parts, ("end",))
    return (word, _tokens(condition), body, otherwise)


def _tokens(text: str) -> list[str]:
    tokens = _TOKEN.findall(text)
    if not tokens:
        raise TemplateError("missing value for command")
    return tokens


def _render(nodes: list[Node], dot: Any, root: Any) -> str:
    out = []
    for node in nodes:
        kind = node[0]
        if kind == "text":
            out.append(node[1])
        elif kind == "print":
            out.append(_text(_pipeline(node[1], dot, root)))
        else:
            out.append(_render_block(node, dot, root))
    return "".join(out)


def _render_block(node: Node, dot: Any, root: Any) -> str:
    kind, condition, body, otherwise = node
    value = _pipeline(condition, dot, root)
    if not value:
        return _render(otherwise, dot, root)
    if kind == "if":
        return _render(body, dot, root)
    if kind == "with":
        return _render(body, value, root)
    items = value.values() if isinstance(value, dict) else value
    return "".join(_render(body, item, root) for item in items)


def _pipeline(tokens: list[str], dot: Any, root: Any) -> Any:
    value: Any = None
    first = True
    for command in _divide(tokens):
        arguments = _operands(command, dot, root)
        name = arguments[0] if isinstance(arguments[0], _Name) else None
        operands = arguments[1:] if name else arguments
        if not first:
            operands = [*operands, value]
        if not name and callable(operands[0]):
            value = operands[0](*operands[1:])
        else:
            value = _call(name, operands) if name else operands[0]
        first = False
    return value


def _divide(tokens: list[str]) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            commands.append([])
        else:
            commands[-1].append(token)
    if not all(commands):
        raise TemplateError("missing value for command")
    return commands


class _Name(str):
    """A function's name in a command."""


def _operands(tokens: list[str], dot: Any, root: Any) -> list[Any]:
    operands: list[Any] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token == "(":
            end = _closing(tokens, position)
            operands.append(_pipeline(tokens[position + 1 : end], dot, root))
            position = end
        elif token.startswith("."):
            operands.append(_field(dot, token))
        elif token.startswith("$"):
            operands.append(_field(root, token[1:] or "."))
        elif token[0] in '"`':
            operands.append(token[1:-1].replace('\\"', '"'))
        elif token.lstrip("-").isdecimal():
            operands.append(int(token))
        elif token in ("true", "false"):
            operands.append(token == "true")
        else:
            operands.append(_Name(token))
        position += 1
    return operands


def _closing(tokens: list[str], opening: int) -> int:
    depth = 0
    for position in range(opening, len(tokens)):
        depth += (tokens[position] == "(") - (tokens[position] == ")")
        if depth == 0:
            return position
    raise TemplateError("unclosed left paren")


def _field(value: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        if not isinstance(value, dict):
            raise TemplateError(f"can't evaluate field {name} of a value that has no fields")
        if name not in value:
            raise TemplateError(f"can't evaluate field {name}: there are {', '.join(sorted(value))}")
        value = value[name]
    return value


def _call(name: str, operands: list[Any]) -> Any:
    function = _functions().get(name)
    if function is None:
        raise TemplateError(f'function "{name}" not defined')
    try:
        return function(*operands)
    except TemplateError:
        raise
    except Exception as error:
        raise TemplateError(f"error calling {name}: {error}") from error


def _functions() -> dict[str, Callable[..., Any]]:
    return {
        "json": lambda value: json.dumps(_data(value), ensure_ascii=False, separators=(",", ":")),
        "join": lambda values, separator: separator.join(map(_text, values)),
        "split": lambda text, separator: text.split(separator),
        "lower": lambda text: _text(text).lower(),
        "upper": lambda text: _text(text).upper(),
        "title": lambda text: _text(text).title(),
        "len": len,
        "index": _index,
        "slice": lambda value, *bounds: value[slice(*bounds)],
        "truncate": lambda text, length: _text(text)[:length],
        "pad": lambda text, before, after: " " * before + _text(text) + " " * after,
        "print": lambda *values: "".join(map(_text, values)),
        "println": lambda *values: " ".join(map(_text, values)) + "\n",
        "printf": lambda layout, *values: layout.replace("%v", "%s").replace("%q", '"%s"') % values,
        "eq": lambda first, *others: any(first == other for other in others),
        "ne": lambda first, second: first != second,
        "not": lambda value: not value,
        "and": lambda *values: next((value for value in values if not value), values[-1]),
        "or": lambda *values: next((value for value in values if value), values[-1]),
    }


def _data(value: Any) -> Any:
    """A value without the fields that are functions."""
    if isinstance(value, dict):
        return {name: member for name, member in value.items() if not callable(member)}
    return value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


def _text(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_text(value[key])}" for key in sorted(value)) + "]"
    return str(value)

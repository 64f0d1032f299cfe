"""READMEs of repositories: kept as the Markdown that came in, shown as HTML that can do no harm.

Two libraries stand between a README and a reader: markdown-it renders CommonMark with raw HTML switched off, nh3
(ammonia) lets only known elements, attributes and link schemes through. Images become links: a page loads nothing
from elsewhere. Both are imported when the first README is shown.
"""

import hashlib
import html
from typing import Any

from sqlalchemy import delete, select

from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, inserting
from moldar.hub.data.schema import READMES, REPOSITORIES
from moldar.hub.refusals import Refusal

README_LIMIT = 128 * 1024
_TAGS = frozenset(
    {
        *("a", "blockquote", "br", "code", "del", "em", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
        *("s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
    }
)
_SCHEMES = frozenset({"http", "https", "mailto"})
_REMEMBERED = 64
_BRACKETS = 500


class Readmes:
    """The READMEs of one hub's repositories."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._rendered: dict[str, str] = {}

    def get(self, repository_id: int) -> str:
        """The Markdown; empty when there is none."""
        with self._database.reading() as connection:
            query = select(READMES.c.content).where(READMES.c.repository_id == repository_id)
            return str(connection.execute(query).scalar() or "")

    def put(self, repository_id: int, content: str, *, by: Actor | None = None) -> None:
        """Sets the README; nothing but white space removes it. Refusal with status 413."""
        text = content.replace("\r\n", "\n").replace("\0", "\ufffd")
        if len(text.encode("utf-8", "replace")) > README_LIMIT:
            raise Refusal("UNSUPPORTED", f"a README has at most {README_LIMIT} bytes", status=413)
        with self._database.writing() as connection:
            name = connection.execute(select(REPOSITORIES.c.name).where(REPOSITORIES.c.id == repository_id)).scalar()
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, str(name or ""), detail="README")
            if not text.strip():
                connection.execute(delete(READMES).where(READMES.c.repository_id == repository_id))
                return
            values = {"content": text, "updated": self._clock()}
            connection.execute(
                inserting(connection, READMES)
                .values(repository_id=repository_id, **values)
                .on_conflict_do_update(index_elements=["repository_id"], set_=values)
            )

    def html(self, repository_id: int) -> str:
        """The README as safe HTML; may take a while the first time."""
        content = self.get(repository_id)
        if not content:
            return ""
        key = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()
        found = self._rendered.get(key)
        if found is None:
            found = render(content)
            if len(self._rendered) >= _REMEMBERED:
                self._rendered.pop(next(iter(self._rendered)), None)
            self._rendered[key] = found
        return found


def render(markdown: str) -> str:
    """Markdown as HTML of a few harmless elements. Headings begin at the second level: the page has the first."""
    import nh3
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
    parser.core.ruler.before("inline", "few_brackets", _few_brackets)
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 1, 6)}"
        for child in token.children or ():
            if child.type == "image":
                _make_link(child)
    made = parser.renderer.render(tokens, parser.options, {})
    return nh3.clean(
        made,
        tags=set(_TAGS),
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes=set(_SCHEMES),
        link_rel="noopener noreferrer nofollow ugc",
        attribute_filter=_only_absolute,
    )


def _few_brackets(state: Any) -> None:
    """Brackets that may begin links are looked at again and again: in a paragraph of very many they are only text."""
    for token in state.tokens:
        if token.type == "inline" and token.content.count("[") > _BRACKETS:
            token.content = token.content.replace("[", "\\[")


def _make_link(image: Any) -> None:
    """An image token becomes the text of a link: `alt` in place of the picture."""
    source = str(image.attrs.get("src", ""))
    image.type, image.tag, image.nesting = "html_inline", "", 0
    text = html.escape(image.content or source)
    image.content = f'<a href="{html.escape(source)}">{text}</a>' if source else text


def _only_absolute(element: str, attribute: str, value: str) -> str | None:
    """Drops links to places on this hub that the author cannot mean."""
    if (element, attribute) == ("a", "href") and not value.lower().startswith(("http:", "https:", "mailto:")):
        return None
    return value

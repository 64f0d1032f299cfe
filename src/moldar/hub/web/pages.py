"""What the pages share: who is signed in, forms and their protection, templates, headers.

A form is taken only with a token that was rendered into it for this browser (and this session), and only from our
own origin. Every page has a strict Content-Security-Policy: no inline script or style, nothing from elsewhere.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from moldar.hub.access.accounts import Account
from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import ANONYMOUS, PULL, Principal, Verdict, decide, may_administer
from moldar.hub.exchange import PRINCIPAL, client_address
from moldar.hub.layers.image import command_text
from moldar.hub.refusals import RETRY_SECONDS, Unavailable
from moldar.hub.registry.repositories import Repository
from moldar.hub.services import Hub
from moldar.hub.web.language import Language, choose
from moldar.remote.wire import valid_repository

HERE = os.path.dirname(__file__)
SESSION_COOKIE = "moldar_session"
FORM_COOKIE = "moldar_form"
_FORM_LIMIT = 512 * 1024
_FORM_COOKIE_SECONDS = 30 * 24 * 3600
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Visit(NamedTuple):
    """One request to a page: who makes it, in which language, with which cookies."""

    request: Request
    account: Account | None
    language: Language
    session: str
    form_cookie: str
    sets_form_cookie: bool
    address: str
    principal: Principal = ANONYMOUS

    @property
    def actor(self) -> Actor:
        """Who to name in the audit log."""
        return Actor(self.principal.name, self.address)


class FormRefused(Exception):
    """A form that did not come from our own page, or is too long."""


class Pages:
    """Makes visits, reads forms, renders templates."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._templates = Environment(
            loader=FileSystemLoader(os.path.join(HERE, "templates")),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["asset"] = _asset_versions()
        self._templates.globals["command_text"] = command_text

    def visit(self, request: Request) -> Visit:
        session = request.cookies.get(SESSION_COOKIE, "")
        account = self.hub.accounts.with_session(session) if session else None
        request.scope[PRINCIPAL] = account.name if account else ""
        form_cookie = request.cookies.get(FORM_COOKIE, "")
        fresh = not form_cookie.isalnum() or len(form_cookie) != 32
        language = choose(request.headers.get("accept-language", ""))
        return Visit(
            request,
            account,
            language,
            session if account else "",
            secrets.token_hex(16) if fresh else form_cookie,
            fresh,
            client_address(request.scope, request.headers.get("x-forwarded-for", ""), self.hub.settings.external_url),
            self.hub.principals.of(account, "session") if account else ANONYMOUS,
        )

    def form_token(self, visit: Visit) -> str:
        message = f"{visit.form_cookie}\0{visit.session}".encode()
        return hmac.new(self.hub.form_secret, message, hashlib.sha256).hexdigest()

    async def form(self, visit: Visit) -> dict[str, str]:
        """The fields of a form of ours; of a repeated field the values, joined by spaces. Raises FormRefused."""
        request = visit.request
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise FormRefused
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise FormRefused
        raw = b""
        async for data in request.stream():
            raw += data
            if len(raw) > _FORM_LIMIT:
                raise FormRefused
        try:
            fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=100)
        except ValueError as error:
            raise FormRefused from error
        form = {name: " ".join(values).replace("\0", "") for name, values in fields.items()}  # no database takes it
        if not hmac.compare_digest(form.get("form_token", "").encode(), self.form_token(visit).encode()):
            raise FormRefused
        return form

    def render(
        self, visit: Visit, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
    ) -> Response:
        language = visit.language
        now = self.hub.clock()
        context = {
            "t": language.text,
            "language": language,
            "size": language.size,
            "ago": lambda moment: language.ago(max(now - moment, 0)),
            "iso": lambda moment: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)),
            "account": visit.account,
            "administers": may_administer(visit.principal),
            "invitations": lambda: self.hub.organisations.invitations(visit.principal.account_id),
            "now": now,
            "form_token": self.form_token(visit),
            "allow_sign_up": self.hub.settings.allow_sign_up,
            "registry_host": self.registry_host(visit),
            "query": "",
            **(values or {}),
        }
        text = self._templates.get_template(template).render(context)
        response = HTMLResponse(text.encode("utf-8", "replace"), status)  # JSON may hold halves of characters
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = "private, no-store"
        response.headers["Vary"] = "Cookie, Accept-Language"
        if visit.sets_form_cookie:
            self.set_cookie(response, FORM_COOKIE, visit.form_cookie, _FORM_COOKIE_SECONDS)
        return response

    def may(self, visit: Visit, action: str, name: str) -> bool:
        place, _ = self.hub.repositories.place(name)
        return decide(visit.principal, action, place, self.hub.policy) is Verdict.ALLOWED

    def visible(self, visit: Visit, name: str) -> Repository | None:
        """The repository, if it exists and the visitor may see it: otherwise the two cannot be told apart."""
        if not valid_repository(name) or not self.may(visit, PULL, name):
            return None
        return self.hub.repositories.find(name)

    def not_found(self, visit: Visit) -> Response:
        return self.render(visit, "message.html", {"title": visit.language.text("Page not found")}, status=404)

    def expired(self, visit: Visit) -> Response:
        message = visit.language.text("The form has expired. Please try again.")
        return self.render(visit, "message.html", {"title": message}, status=403)

    def outage(self, request: Request, error: Unavailable) -> Response:
        """What a person reads while database or storage are out; neither is asked anything. Programs get text.

        Who visits is not known then, so the page shows nobody's name and no sign-in.
        """
        language = choose(request.headers.get("accept-language", ""))
        reason = language.text(error.message)
        if "text/html" in request.headers.get("accept", ""):
            visit = Visit(request, None, language, "", "", False, "")
            response = self.render(visit, "outage.html", {"reason": reason[:1].upper() + reason[1:]}, status=503)
        else:
            text = f"{reason}. {language.text('Please try again in a moment.')}\n"
            response = PlainTextResponse(text, 503, {"Cache-Control": "no-store"})
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    def redirect(self, target: str) -> Response:
        """To a path of ours; to the home page for anything else."""
        response = RedirectResponse(local_path(target), 303)
        response.headers.update(SECURITY_HEADERS)
        return response

    def set_cookie(self, response: Response, name: str, value: str, lifetime: int) -> None:
        response.set_cookie(
            name, value, max_age=lifetime, httponly=True, samesite="lax", secure=self.hub.settings.secure_cookies
        )

    def registry_host(self, visit: Visit) -> str:
        external = self.hub.settings.external_url
        return urlsplit(external).netloc if external else visit.request.headers.get("host", "localhost")


def local_path(target: str) -> str:
    """`target` when it is a path on this host, else `/`."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() and "\\" not in target else "/"


def shown_name(text: str) -> str:
    """A name from somebody's archive as visible text: control characters and what turns text around are escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{{{number:x}}}"


def byte_query(request: Request) -> dict[str, str]:
    """The query's parameters; bytes that are no UTF-8 survive, as in names of files."""
    raw = request.scope["query_string"].decode("latin-1")
    try:
        return dict(parse_qsl(raw, errors="surrogateescape", max_num_fields=50))
    except ValueError:
        return {}


def byte_link(path: str, /, **parameters: str) -> str:
    """A link with parameters that `byte_query` gives back."""
    kept = {name: value for name, value in parameters.items() if value}
    query = urlencode(kept, errors="surrogateescape")
    return quote(path, safe="/:@") + (f"?{query}" if query else "")


def _asset_versions() -> dict[str, str]:
    """File name -> path with the content's hash, so that browsers keep an asset for as long as it is the same."""
    versions = {}
    for name in sorted(os.listdir(os.path.join(HERE, "static"))):
        with open(os.path.join(HERE, "static", name), "rb") as file:
            versions[name] = f"/static/{name}?{hashlib.sha256(file.read()).hexdigest()[:12]}"
    return versions

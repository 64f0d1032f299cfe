"""The pages for accounts: signing up, in and out, and personal access tokens."""

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound, UserMistake
from moldar.hub.access.accounts import Account
from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import ACTIONS, may_have_tokens
from moldar.hub.authentication import Authenticator
from moldar.hub.refusals import TooManyAttempts
from moldar.hub.web.desk import Desk, Form, Subject, names_in, path_number
from moldar.hub.web.pages import SESSION_COOKIE, Visit, local_path

SIGN_UP_COUNTER = ":sign-up"
LIFETIMES = (7, 30, 90, 365)
DAY = 24 * 3600
_TOKENS = "/settings/tokens"


class AccountPages:
    """Handlers of the account pages."""

    def __init__(self, desk: Desk, authenticator: Authenticator) -> None:
        self._desk = desk
        self._pages = desk.pages
        self._hub = desk.hub
        self._authenticator = authenticator

    async def sign_up(self, request: Request) -> Response:
        visit, name = self._pages.visit(request), ""

        def show(problem: str = "") -> Response:
            values = {"name": name, "problem": problem}
            return self._pages.render(visit, "sign_up.html", values, status=400 if problem else 200)

        async def work(form: Form) -> Response:
            nonlocal name
            name, password = form.get("name", "").strip(), form.get("password", "")
            by = Actor(name, visit.address)
            try:
                self._hub.throttle.check(SIGN_UP_COUNTER, visit.address)
                account = await self._hub.in_hashing_thread(self._hub.accounts.create, name, password, by=by)
            except TooManyAttempts as error:
                return self._too_many(visit, "sign_up.html", error)
            await self._hub.in_thread(self._hub.throttle.count, SIGN_UP_COUNTER, visit.address)
            return await self._signed_in(account, "/", visit.address)

        if request.method != "POST" or not self._hub.settings.allow_sign_up:
            return show()
        return await self._desk.attend(visit, work, show, "/")

    async def sign_in(self, request: Request) -> Response:
        visit, name = self._pages.visit(request), ""
        target = local_path(request.query_params.get("next", "/"))

        def show(problem: str = "") -> Response:
            values = {"problem": problem, "name": name, "next": target}
            return self._pages.render(visit, "sign_in.html", values, status=400 if problem else 200)

        async def work(form: Form) -> Response:
            nonlocal name, target
            name, target = form.get("name", ""), local_path(form.get("next", "/"))
            try:
                account = await self._authenticator.by_password(name.strip(), form.get("password", ""), visit.address)
            except TooManyAttempts as error:
                return self._too_many(visit, "sign_in.html", error)
            if account is None:
                raise UserMistake("Wrong user name or password.")
            return await self._signed_in(account, target, visit.address)

        return await self._desk.attend(visit, work, show, "/") if request.method == "POST" else show()

    async def sign_out(self, request: Request) -> Response:
        visit = self._pages.visit(request)

        def act(_form: Form) -> Response:
            if visit.session:
                self._hub.accounts.close_session(visit.session)
            response = self._pages.redirect("/")
            response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
            return response

        return await self._desk.take(visit, act, lambda _problem: self._pages.not_found(visit), "/")

    async def tokens(self, request: Request) -> Response:
        subject = self._own(request)
        if isinstance(subject, Response):
            return subject
        visit, account, frame, here = subject

        def show(problem: str = "", secret: str = "") -> Response:
            values = {
                "tokens": self._hub.accounts.list_tokens(account.id),
                "secret": secret,
                "lifetimes": LIFETIMES,
                "actions": ACTIONS,
            }
            return self._desk.render(visit, frame, "tokens.html", values, problem=problem)

        def act(form: Form) -> Response:
            days = form.get("days", "")
            _, secret = self._hub.accounts.create_token(
                account,
                form.get("name", ""),
                actions=tuple(action for action in ACTIONS if action in form.get("actions", "").split()),
                repositories=names_in(form.get("repositories", "")),
                lifetime=int(days) * DAY if days in map(str, LIFETIMES) else None,
                by=visit.actor,
            )
            return show(secret=secret)

        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

    async def revoke(self, request: Request) -> Response:
        subject = self._own(request)
        if isinstance(subject, Response):
            return subject
        visit, account, _, _ = subject

        def act(_form: Form) -> None:
            if not self._hub.accounts.revoke_token(account.id, path_number(request), by=visit.actor):
                raise NotFound("no such token")

        return await self._desk.take(visit, act, lambda _problem: self._pages.not_found(visit), _TOKENS)

    def _own(self, request: Request) -> Subject | Response:
        visit = self._pages.visit(request)
        subject = self._desk.own(visit) if may_have_tokens(visit.principal) else None
        return subject or self._pages.redirect(f"/sign-in?next={_TOKENS}")

    async def _signed_in(self, account: Account, target: str, address: str) -> Response:
        lifetime = self._hub.settings.session_lifetime
        secret = await self._hub.in_thread(
            self._hub.accounts.open_session, account, lifetime, by=Actor(account.name, address)
        )
        response = self._pages.redirect(target)
        self._pages.set_cookie(response, SESSION_COOKIE, secret, lifetime)
        return response

    def _too_many(self, visit: Visit, template: str, error: TooManyAttempts) -> Response:
        problem = visit.language.text("Too many attempts. Please wait a while.")
        response = self._pages.render(visit, template, {"problem": problem, "next": "/"}, status=429)
        response.headers["Retry-After"] = str(error.wait)
        return response

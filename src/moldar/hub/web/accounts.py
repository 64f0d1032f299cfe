"""The pages for accounts: signing up, in and out, and personal access tokens."""

from starlette.requests import Request
from starlette.responses import Response

from moldar.hub.access.accounts import Account, InvalidAccount, InvalidToken
from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import ACTIONS, may_have_tokens
from moldar.hub.authentication import Authenticator
from moldar.hub.refusals import TooManyAttempts
from moldar.hub.web.navigation import ACCOUNT_TABS, Frame, links
from moldar.hub.web.pages import SESSION_COOKIE, FormRefused, Pages, Visit, local_path

SIGN_UP_COUNTER = ":sign-up"
LIFETIMES = (7, 30, 90, 365)
DAY = 24 * 3600


class AccountPages:
    """Handlers of the account pages."""

    def __init__(self, pages: Pages, authenticator: Authenticator) -> None:
        self._pages = pages
        self._hub = pages.hub
        self._authenticator = authenticator

    async def sign_up(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        if request.method != "POST" or not self._hub.settings.allow_sign_up:
            return self._sign_up_page(visit, "", "")
        try:
            form = await self._pages.form(visit)
            name, password = form.get("name", "").strip(), form.get("password", "")
            self._hub.throttle.check(SIGN_UP_COUNTER, visit.address)
            account = await self._hub.in_hashing_thread(
                self._hub.accounts.create, name, password, by=Actor(name, visit.address)
            )
        except FormRefused:
            return self._pages.expired(visit)
        except InvalidAccount as error:
            return self._sign_up_page(visit, name, visit.language.text(error.message), 400)
        except TooManyAttempts as error:
            return self._too_many(visit, "sign_up.html", error)
        self._hub.throttle.failed(SIGN_UP_COUNTER, visit.address)
        return await self._signed_in(account, "/", visit.address)

    async def sign_in(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        target = local_path(request.query_params.get("next", "/"))
        if request.method != "POST":
            return self._pages.render(visit, "sign_in.html", {"next": target})
        try:
            form = await self._pages.form(visit)
            account = await self._authenticator.by_password(
                form.get("name", "").strip(), form.get("password", ""), visit.address
            )
        except FormRefused:
            return self._pages.expired(visit)
        except TooManyAttempts as error:
            return self._too_many(visit, "sign_in.html", error)
        if account is None:
            problem = visit.language.text("Wrong user name or password.")
            values = {"problem": problem, "name": form.get("name", ""), "next": target}
            return self._pages.render(visit, "sign_in.html", values, status=400)
        return await self._signed_in(account, local_path(form.get("next", "/")), visit.address)

    async def sign_out(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        try:
            await self._pages.form(visit)
        except FormRefused:
            return self._pages.expired(visit)
        if visit.session:
            await self._hub.in_thread(self._hub.accounts.close_session, visit.session)
        response = self._pages.redirect("/")
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    async def tokens(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        if visit.account is None or not may_have_tokens(visit.principal):
            return self._pages.redirect("/sign-in?next=/settings/tokens")
        if request.method != "POST":
            return self._tokens_page(visit, visit.account)
        try:
            form = await self._pages.form(visit)
            days = form.get("days", "")
            _, secret = await self._hub.in_thread(
                self._hub.accounts.create_token,
                visit.account,
                form.get("name", ""),
                actions=tuple(action for action in ACTIONS if action in form.get("actions", "").split()),
                repositories=tuple(form.get("repositories", "").replace(",", " ").split()[:20]),
                lifetime=int(days) * DAY if days in map(str, LIFETIMES) else None,
                by=visit.actor,
            )
        except FormRefused:
            return self._pages.expired(visit)
        except InvalidToken as error:
            return self._tokens_page(visit, visit.account, problem=visit.language.text(error.message))
        return self._tokens_page(visit, visit.account, secret=secret)

    async def revoke(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        if visit.account is None or not may_have_tokens(visit.principal):
            return self._pages.redirect("/sign-in?next=/settings/tokens")
        try:
            await self._pages.form(visit)
        except FormRefused:
            return self._pages.expired(visit)
        number = request.path_params["number"]
        if not await self._hub.in_thread(self._hub.accounts.revoke_token, visit.account.id, number, by=visit.actor):
            return self._pages.not_found(visit)
        return self._pages.redirect("/settings/tokens")

    async def _signed_in(self, account: Account, target: str, address: str) -> Response:
        lifetime = self._hub.settings.session_lifetime
        secret = await self._hub.in_thread(
            self._hub.accounts.open_session, account, lifetime, by=Actor(account.name, address)
        )
        response = self._pages.redirect(target)
        self._pages.set_cookie(response, SESSION_COOKIE, secret, lifetime)
        return response

    def _sign_up_page(self, visit: Visit, name: str, problem: str, status: int = 200) -> Response:
        return self._pages.render(visit, "sign_up.html", {"name": name, "problem": problem}, status=status)

    def _too_many(self, visit: Visit, template: str, error: TooManyAttempts) -> Response:
        problem = visit.language.text("Too many attempts. Please wait a while.")
        response = self._pages.render(visit, template, {"problem": problem, "next": "/"}, status=429)
        response.headers["Retry-After"] = str(error.wait)
        return response

    def _tokens_page(self, visit: Visit, account: Account, *, secret: str = "", problem: str = "") -> Response:
        values = {
            "tokens": self._hub.accounts.list_tokens(account.id),
            "secret": secret,
            "problem": problem,
            "lifetimes": LIFETIMES,
            "actions": ACTIONS,
        }
        values["frame"] = Frame(account.name, f"/u/{account.name}", ACCOUNT_TABS)
        values["tabs"] = links(ACCOUNT_TABS, "/settings/tokens")
        return self._pages.render(visit, "tokens.html", values, status=400 if problem else 200)

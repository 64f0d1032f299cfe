"""The routes of the settings and administrators' pages."""

from starlette.routing import BaseRoute, Route

from moldar.hub.web.administration import AdminPages
from moldar.hub.web.audit import AuditPages
from moldar.hub.web.desk import Desk
from moldar.hub.web.keeping import KeepingPages
from moldar.hub.web.organisations import OrganisationPages
from moldar.hub.web.repository_settings import RepositorySettings
from moldar.hub.web.robots import RobotPages
from moldar.hub.web.teams import TeamPages
from moldar.hub.web.webhooks import WebhookPages


def settings_routes(desk: Desk) -> list[BaseRoute]:
    """Each has its tab in `navigation`."""
    organisations = OrganisationPages(desk)
    teams = TeamPages(desk)
    robots = RobotPages(desk)
    audit = AuditPages(desk)
    repositories = RepositorySettings(desk)
    keeping = KeepingPages(desk)
    webhooks = WebhookPages(desk)
    admin = AdminPages(desk)
    both = ["GET", "POST"]
    return [
        Route("/settings/organisations", organisations.mine, methods=both),
        Route("/settings/robots", robots.robots, methods=both),
        Route("/settings/audit", audit.namespace),
        Route("/settings/webhooks", webhooks.hooks, methods=both),
        Route("/settings/webhooks/{number:int}", webhooks.hook, methods=both),
        Route("/settings/retention", keeping.namespace, methods=both),
        Route("/settings/retention/{name:path}", keeping.repository, methods=both),
        Route("/settings/immutable/{name:path}", keeping.immutable, methods=both),
        Route("/settings/repository/{name:path}", repositories.general, methods=both),
        Route("/settings/access/{name:path}", teams.access, methods=both),
        Route("/o/{name}/members", organisations.members, methods=both),
        Route("/o/{name}/teams", teams.teams, methods=both),
        Route("/o/{name}/robots", robots.robots, methods=both),
        Route("/o/{name}/retention", keeping.namespace, methods=both),
        Route("/o/{name}/audit", audit.namespace),
        Route("/o/{name}/delete", organisations.delete, methods=both),
        Route("/admin", admin.overview, methods=both),
        Route("/admin/accounts", admin.accounts, methods=both),
        Route("/admin/audit", audit.everything),
    ]

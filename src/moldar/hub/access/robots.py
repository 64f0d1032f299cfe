"""Robot accounts: names such as `acme+ci` for programs, each with one token, limited to a namespace.

A robot is an account without a password: it cannot sign in at the pages, and what it may do is what its token says,
within the namespace of the organisation or person that it works for.
"""

from typing import ClassVar, NamedTuple

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from moldar.errors import NotFound, UserMistake
from moldar.hub.access import audit
from moldar.hub.access.accounts import (
    ROBOT,
    AccessToken,
    Account,
    check_token,
    insert_token,
    token_detail,
    token_from,
)
from moldar.hub.access.audit import Actor, record
from moldar.hub.access.decisions import is_within, robot_name_problem
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import ACCESS_TOKENS, ACCOUNTS, ROBOTS


class Robot(NamedTuple):
    """A robot with its token."""

    name: str
    description: str
    token: AccessToken


class RobotRefused(UserMistake):
    """A robot cannot be made so. `problem` is a key of MESSAGES."""

    MESSAGES: ClassVar = {
        "length": "a robot's name has 1 to 39 characters",
        "characters": "a robot's name has lower-case letters and digits, with single . - _ between them",
        "taken": "there is a robot of this name already",
        "repositories": "a robot works in repositories of this namespace, as acme/app or acme/*",
    }

    def __init__(self, problem: str) -> None:
        super().__init__(self.MESSAGES[problem])
        self.problem = problem


class Robots:
    """The robots of one hub."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(
        self,
        owner: Account,
        name: str,
        *,
        description: str = "",
        actions: tuple[str, ...],
        repositories: tuple[str, ...] = (),
        lifetime: int | None = None,
        by: Actor | None = None,
    ) -> tuple[Robot, str]:
        """The robot `OWNER+name` and its token's secret. `lifetime` in seconds; no repositories: the whole namespace.

        Raises RobotRefused, InvalidToken.
        """
        problem = robot_name_problem(name)
        if problem:
            raise RobotRefused(problem)
        patterns = repositories or (f"{owner.name}/*",)
        if not all(is_within(pattern, owner.name) for pattern in patterns):
            raise RobotRefused("repositories")
        whole = f"{owner.name}+{name}"
        check_token(whole, actions, patterns)
        now, text = self._clock(), description.strip()[:200]
        row = {"name": whole, "password_hash": "", "is_admin": False, "is_disabled": False, "kind": ROBOT}
        try:
            with self._database.writing() as connection:
                number = new_id(connection.execute(insert(ACCOUNTS).values(**row, created=now)))
                connection.execute(insert(ROBOTS).values(account_id=number, owner_id=owner.id, description=text))
                token, secret = insert_token(
                    connection, now, number, whole, actions=actions, repositories=patterns, lifetime=lifetime
                )
                record(connection, now, by, audit.ROBOT_MADE, owner.name, detail=token_detail(token))
        except IntegrityError as error:
            raise RobotRefused("taken") from error
        return Robot(whole, text, token), secret

    def of(self, owner: Account) -> list[Robot]:
        """The robots of a namespace, by name."""
        query = (
            select(ACCOUNTS.c.name.label("robot"), ROBOTS.c.description, *ACCESS_TOKENS.c)
            .join(ROBOTS, ROBOTS.c.account_id == ACCOUNTS.c.id)
            .join(ACCESS_TOKENS, ACCESS_TOKENS.c.account_id == ACCOUNTS.c.id)
            .where(ROBOTS.c.owner_id == owner.id)
            .order_by(ACCOUNTS.c.name)
        )
        with self._database.reading() as connection:
            return [Robot(row.robot, row.description, token_from(row)) for row in connection.execute(query)]

    def delete(self, owner: Account, name: str, by: Actor | None = None) -> None:
        """Its token is worth nothing from now on. Raises NotFound."""
        with self._database.writing() as connection:
            query = (
                select(ACCOUNTS.c.id)
                .join(ROBOTS, ROBOTS.c.account_id == ACCOUNTS.c.id)
                .where(ROBOTS.c.owner_id == owner.id, ACCOUNTS.c.name == name)
            )
            number = connection.execute(query).scalar()
            if number is None:
                raise NotFound(f"no robot {name}")
            connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.id == number))
            record(connection, self._clock(), by, audit.ROBOT_DELETED, owner.name, detail=name)

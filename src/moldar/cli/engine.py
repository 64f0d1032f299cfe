"""The engine that a command works with, made from the environment once per command."""

import atexit

from moldar.app.engine import Engine, Settings
from moldar.cli import environment


def engine(*, as_root: bool = True) -> Engine:
    """An engine over the store that the environment names; it opens nothing before it is used.

    Without root this process becomes root in a user namespace, unless `as_root` says that nothing needs it.
    """
    home = environment.home()
    engine = Engine(
        Settings(
            home=home,
            unprivileged=_become_root(home) if as_root and not environment.is_root() else "",
            docker_config=environment.docker_config(),
            configuration_files=environment.configuration_files(),
            http_proxy=environment.either_case("HTTP_PROXY"),
            https_proxy=environment.either_case("HTTPS_PROXY"),
            no_proxy=environment.either_case("NO_PROXY"),
        )
    )
    atexit.register(engine.close)
    return engine


def _become_root(home: str) -> str:
    from moldar.app.rootless import become_root

    environment.set_home(home)  # for root it would be elsewhere
    return become_root(home)

"""The engine that a command works with, made from the environment once per command."""

import atexit

from moldar.app.engine import Engine, Settings
from moldar.cli import environment


def engine() -> Engine:
    """An engine over the store that the environment names; it opens nothing before it is used."""
    engine = Engine(
        Settings(
            home=environment.home(),
            docker_config=environment.docker_config(),
            configuration_files=environment.configuration_files(),
            http_proxy=environment.either_case("HTTP_PROXY"),
            https_proxy=environment.either_case("HTTPS_PROXY"),
            no_proxy=environment.either_case("NO_PROXY"),
        )
    )
    atexit.register(engine.close)
    return engine

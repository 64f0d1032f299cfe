"""What goes wrong while a container is made, told over a pipe to `builtin`, which raises it as an error of ours."""


class Failure(Exception):
    """`code` is 126 or 127 when it is the process that cannot be started, 0 when it is its surroundings."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Doing:
    """A context in which OSErrors become Failures that say at what."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Failure(f"cannot {self._what}: {error.strerror}") from error

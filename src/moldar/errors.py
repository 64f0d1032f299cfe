"""The one root of Moldar's errors and its families.

A family says what kind of trouble it is, which decides the exit code and how the command line prints it.
Leaves live near the code that raises them and carry data (a location, a digest, an exit code).
"""


class MoldarError(Exception):
    """Anything that Moldar reports to a person in words instead of a traceback.

    `message` says what happened and where, `hint` what to do about it (may be empty), `excerpt` holds
    lines to show between the two, such as the offending lines of a Dockerfile (may be empty).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", excerpt: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.excerpt = excerpt


class UserMistake(MoldarError):
    """The request cannot be right as written: a malformed Dockerfile, a missing file, an unknown name."""


class NotFound(UserMistake):
    """A named thing (image, container, tag, stage) does not exist."""


class StepFailed(MoldarError):
    """A build step or container ran and failed; the exit status of the process is in the leaf."""


class RegistryRefused(MoldarError):
    """A registry could not be reached or said no."""


class CorruptData(MoldarError):
    """Bytes are not what their digest, size or format promises."""


class Unsupported(MoldarError):
    """A valid request that this host or this version cannot serve."""


class HostTrouble(MoldarError):
    """The machine failed us: no space, no permission, a missing program, a failed system call."""

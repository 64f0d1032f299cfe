"""Working without root."""

from moldar.sandbox.user_namespace import enter_user_namespace


def become_root(home: str) -> str:
    """Make this process root in the user namespace of the store at `home`; why not, empty when it is done.

    To be called before there are threads, and before the store is opened.
    """
    return enter_user_namespace(home)

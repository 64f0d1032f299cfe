"""Package managers that fetch everything anew whenever their step runs, for want of a cache mount."""

from typing import NamedTuple

from moldar.advice.commands import Part, manager_parts, plain_parts
from moldar.advice.facts import Advice, Facts
from moldar.advice.order import step_text
from moldar.dockerfile.instructions import Env, Run, Stage, User

CACHES = {
    "pip": ("/root/.cache/pip",),
    "npm": ("/root/.npm",),
    "yarn": ("/usr/local/share/.cache/yarn",),
    "apt": ("/var/cache/apt", "/var/lib/apt/lists"),
    "apk": ("/var/cache/apk",),
    "cargo": ("/usr/local/cargo/registry",),
    "go": ("/go/pkg/mod", "/root/.cache/go-build"),
}
_LISTS = "/var/lib/apt/lists/*"
_LOCKED = frozenset({"apt", "apk"})
_FETCHING = {
    "pip": {"install", "download", "wheel"},
    "npm": {"ci", "install", "i", "add"},
    "yarn": {"install", "add"},
    "apt": {"install", "update", "upgrade"},
    "apk": {"add", "upgrade"},
    "cargo": {"build", "fetch", "install", "test"},
    "go": {"mod download", "build", "install", "test", "get"},
}
_FIXABLE = frozenset({"pip", "npm", "apt"})


class Missing(NamedTuple):
    """A RUN of `stage` and the managers in it that have no cache mount; `fixable` when all of it is understood."""

    stage: Stage
    run: Run
    managers: tuple[str, ...]
    fixable: bool

    @property
    def flags(self) -> tuple[str, ...]:
        """The --mount flags that it lacks."""
        return tuple(_flag(target, name) for name in self.managers for target in CACHES[name])


def advise_cache_mounts(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each RUN that lacks one, with what the step took when it last ran."""
    return tuple(_advice(missing, facts) for missing in find_missing(facts))


def find_missing(facts: Facts) -> tuple[Missing, ...]:
    """Each RUN whose package manager works without a cache mount, as root."""
    found = []
    for stage in facts.file.stages:
        root = dict(facts.users).get(stage.base, "root").partition(":")[0] in ("root", "0")
        switched_off = False
        for item in stage.instructions:
            if isinstance(item, User):
                root = item.user.partition(":")[0] in ("root", "0")
            elif isinstance(item, Env):
                switched_off = switched_off or any(pair.key == "PIP_NO_CACHE_DIR" for pair in item.pairs)
            elif isinstance(item, Run) and root:
                managers = _managers(item, switched_off)
                if managers:
                    found.append(Missing(stage, item, managers, _fixable(item, managers)))
    return tuple(found)


def _managers(run: Run, switched_off: bool) -> tuple[str, ...]:
    mounted = " ".join(run.mount_texts)
    if "type=cache" in mounted:
        return ()
    names = []
    for part in manager_parts(run):
        wanted = part.verb in _FETCHING.get(part.manager, ()) and not (part.manager == "pip" and switched_off)
        if wanted and part.manager not in names:
            names.append(part.manager)
    return tuple(names)


def _fixable(run: Run, managers: tuple[str, ...]) -> bool:
    parts = plain_parts(run)
    return parts is not None and _FIXABLE.issuperset(managers) and not any(map(_cleans, parts))


def _cleans(part: Part) -> bool:
    """Whether the command empties or removes a cache as a whole: with a mount it would do that to the mount."""
    if part.words[0] == "rm":
        kept = [target for targets in CACHES.values() for target in targets]
        return any(
            target.startswith(word.rstrip("/*")) for word in part.words[1:] for target in kept if word != _LISTS
        )
    return part.manager in ("npm", "yarn") and part.verb == "cache"


def _flag(target: str, manager: str) -> str:
    return f"--mount=type=cache,target={target}" + (",sharing=locked" if manager in _LOCKED else "")


def _advice(missing: Missing, facts: Facts) -> Advice:
    origin = missing.run.origin
    steps = (build.find(step_text(origin.text)) for build in facts.builds)
    ran = next((step for step in steps if step is not None and not step.cached), None)
    names = " and ".join(missing.managers)
    message = f"{names} fetches everything anew whenever this step runs: a cache mount keeps it"
    if ran is not None:
        message += f" (the step took {ran.seconds:.1f} s)"
    return Advice(
        "cache-mount",
        origin.location.start,
        message,
        seconds=ran.seconds if ran else 0.0,
        lines=missing.flags,
        fixable=missing.fixable,
    )

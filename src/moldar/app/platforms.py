"""The plans of a build for several platforms, made at the same time: each may have to ask registries."""

from collections.abc import Callable, Sequence

from moldar.builder.plan import Plan
from moldar.export.layer_forms import run_parallel
from moldar.image.model import Platform


def plan_each(platforms: Sequence[Platform], plan_one: Callable[[Platform], Plan]) -> list[Plan]:
    """The plans of `platforms`, in their order; the first error that any of them meets is raised."""
    plans: dict[Platform, Plan] = {}

    def make(platform: Platform) -> Callable[[], None]:
        def work() -> None:
            plans[platform] = plan_one(platform)

        return work

    run_parallel([make(platform) for platform in platforms])
    return [plans[platform] for platform in platforms]

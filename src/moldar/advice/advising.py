"""All advice on one Dockerfile, in the order in which a person should read it: what costs time first."""

from moldar.advice.cache_mounts import advise_cache_mounts
from moldar.advice.context import advise_context
from moldar.advice.facts import Advice, Facts
from moldar.advice.hygiene import advise_bases, advise_secrets
from moldar.advice.manifests import advise_manifests
from moldar.advice.order import advise_order
from moldar.advice.waste import advise_waste
from moldar.advice.weight import advise_weight

_ADVISERS = (
    advise_order,
    advise_cache_mounts,
    advise_manifests,
    advise_context,
    advise_weight,
    advise_waste,
    advise_secrets,
    advise_bases,
)


def advise(facts: Facts) -> tuple[Advice, ...]:
    """Everything that would be better otherwise."""
    return tuple(advice for adviser in _ADVISERS for advice in adviser(facts))

"""Secrets that stay readable in the image, and bases that may be others tomorrow."""

from moldar.advice.facts import Advice, Facts
from moldar.dockerfile.checks.checking import check
from moldar.dockerfile.checks.facts import Facts as CheckFacts
from moldar.dockerfile.instructions import Stage

_RULE = "SecretsUsedInArgOrEnv"


def advise_secrets(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each ARG and ENV that the build checks take for a secret."""
    return tuple(
        Advice("secret", finding.line, finding.message)
        for finding in check(facts.file, CheckFacts()).findings
        if finding.rule == _RULE
    )


def advise_bases(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each base from a registry that is named without a digest."""
    found = []
    digests = dict(facts.digests)
    for stage in facts.file.stages:
        if _is_floating(stage, facts):
            message = f"{stage.base} may be another image tomorrow"
            digest = digests.get(stage.base)
            lines = (f"{stage.base}@{digest}",) if digest else ()
            message += f": pin it as {lines[0]}" if lines else ": pin it with a digest"
            found.append(Advice("unpinned-base", stage.origin.location.start, message, lines=lines))
    return tuple(found)


def _is_floating(stage: Stage, facts: Facts) -> bool:
    name = stage.base
    if name.lower() == "scratch" or "@" in name or "$" in name:
        return False
    return not any(earlier.name == name.lower() for earlier in facts.file.stages[: stage.number])

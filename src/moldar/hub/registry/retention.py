"""What a retention rule lets go of: decided here, from plain values.

A tag stays when any part of the rule keeps it; a rule without such parts keeps every tag. A manifest without a tag
stays for the rule's days after it lost its last tag, or was pushed or pulled. What an index that stays names stays,
and so does what refers to anything that stays: signatures and SBOMs, by their `subject` or by tags such as
`sha256-…` (distribution-spec, "Referrers Tag Schema"; `sha256-….sig` as cosign writes it).
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from moldar.hub.registry.patterns import TagPatterns

DAY = 24 * 3600
_PUSHING = 3600
"""How long the parts of an index may take to be pushed before it; they have no tag meanwhile."""
NO_RULE_KEEPS_IT = "no part of the rule keeps it"
WITHOUT_A_TAG = "it has had no tag for too long"
ATTACHED_TO_NOTHING = "what it belongs to is gone"
_ATTACHED = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(?:\..*)?\Z")


class Rule(NamedTuple):
    """Keep the last `keep_last` tags, those pushed or pulled within so many days, and those that match a pattern.

    `untagged_days`: how long a manifest without a tag stays. None: that part says nothing.
    """

    keep_last: int | None = None
    pushed_days: int | None = None
    pulled_days: int | None = None
    patterns: TagPatterns = TagPatterns()
    untagged_days: int | None = None

    @property
    def is_about_tags(self) -> bool:
        days = (self.keep_last, self.pushed_days, self.pulled_days)
        return any(part is not None for part in days) or bool(self.patterns.patterns)


class HeldTag(NamedTuple):
    """A tag. `updated`: when it was pushed last."""

    name: str
    digest: str
    updated: int


class HeldManifest(NamedTuple):
    """A manifest, with what is known of its use; 0 for a time that never was."""

    digest: str
    size: int
    pushed: int
    pulled: int
    untagged: int
    subject: str
    children: tuple[str, ...]


class Contents(NamedTuple):
    """What a repository holds. `immutable`: tags that nothing may delete."""

    tags: tuple[HeldTag, ...]
    manifests: Mapping[str, HeldManifest]
    immutable: TagPatterns = TagPatterns()


class Going(NamedTuple):
    """A tag (with the digest that it names) or a manifest (`tag` is empty) that the rule lets go of, and why.

    `seen`: the tag's or manifest's time of push, by which it is recognised; `pulled`: 0 for never.
    """

    tag: str
    digest: str
    reason: str
    seen: int
    pulled: int


def plan(contents: Contents, rule: Rule, now: int) -> list[Going]:
    """What goes, in an order in which nothing that refers goes after what it refers to."""
    if not rule.is_about_tags and rule.untagged_days is None:
        return []
    attached = {tag: match[1].replace("-", ":", 1) for tag in contents.tags if (match := _ATTACHED.match(tag.name))}
    kept = _kept_tags([tag for tag in contents.tags if tag not in attached], contents, rule, now)
    kept |= {tag for tag in attached if contents.immutable.match(tag.name) or not _is_old(tag, now)}
    while True:
        stays = _staying(contents, kept, rule, now)
        more = {tag for tag, target in attached.items() if target in stays} - kept
        if not more:
            break
        kept |= more
    going = [_going(tag, contents, tag in attached) for tag in contents.tags if tag not in kept]
    gone = [manifest for manifest in contents.manifests.values() if manifest.digest not in stays]
    gone.sort(key=lambda manifest: (not manifest.children, manifest.digest))
    return going + [Going("", one.digest, WITHOUT_A_TAG, one.pushed, one.pulled) for one in gone]


def _kept_tags(tags: list[HeldTag], contents: Contents, rule: Rule, now: int) -> set[HeldTag]:
    if not rule.is_about_tags:
        return set(tags)
    newest = sorted(tags, key=lambda tag: (-tag.updated, tag.name))
    kept = set(newest[: rule.keep_last or 0])
    for tag in tags:
        used = contents.manifests[tag.digest].pulled if tag.digest in contents.manifests else 0
        if (
            contents.immutable.match(tag.name)
            or rule.patterns.match(tag.name)
            or _is_within(tag.updated, rule.pushed_days, now)
            or _is_within(used, rule.pulled_days, now)
        ):
            kept.add(tag)
    return kept


def _staying(contents: Contents, kept: set[HeldTag], rule: Rule, now: int) -> set[str]:
    """The digests that stay when these tags do."""
    tagged = {tag.digest for tag in kept}
    loses_its_tag = {tag.digest for tag in contents.tags} - tagged
    roots = set(tagged)
    for manifest in contents.manifests.values():
        if manifest.digest in tagged:
            continue
        since = max(manifest.pushed, manifest.pulled, manifest.untagged)
        if manifest.digest in loses_its_tag:
            since = now
        is_new = since > now - (rule.untagged_days or 0) * DAY or manifest.pushed > now - _PUSHING
        if rule.untagged_days is None or is_new:
            roots.add(manifest.digest)
    return _closure(contents.manifests, roots)


def _closure(manifests: Mapping[str, HeldManifest], roots: Iterable[str]) -> set[str]:
    """The roots, with what they name and what refers to any of these."""
    referrers: dict[str, list[str]] = {}
    for manifest in manifests.values():
        if manifest.subject:
            referrers.setdefault(manifest.subject, []).append(manifest.digest)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        found.add(digest)
        waiting += referrers.get(digest, [])
        waiting += manifests[digest].children if digest in manifests else ()
    return found


def _going(tag: HeldTag, contents: Contents, is_attached: bool) -> Going:
    pulled = contents.manifests[tag.digest].pulled if tag.digest in contents.manifests else 0
    return Going(tag.name, tag.digest, ATTACHED_TO_NOTHING if is_attached else NO_RULE_KEEPS_IT, tag.updated, pulled)


def _is_within(moment: int, days: int | None, now: int) -> bool:
    return days is not None and moment > now - days * DAY


def _is_old(tag: HeldTag, now: int) -> bool:
    """Whether an attachment that names nothing may go: it may have come before what it belongs to."""
    return tag.updated < now - DAY

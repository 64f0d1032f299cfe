"""What a step made may be reused over another layer only where running it there makes the same.

Random layers, commands and edits: the command runs over a layer's view, the layer is edited, the command runs over
the edited layer, natively; when every observation still holds, it must have made the same changes. READSET_TRIALS
says how many edits are tried, READSET_SEED where to begin; READSET_REPORT is a file for the figures: of all trials,
of each command, and which observations stood in the way of a reuse that would have been right.
"""

import json
import os
import random
from collections import Counter
from pathlib import Path

from tests.readset.commands import COMMANDS, FAILING
from tests.readset.laboratory import Laboratory, made, run
from tests.readset.trees import edit, random_tree

from moldar.sandbox.readset.observations import Observation, first_difference, observe
from moldar.sandbox.readset.trees import DirectoryTree

TRIALS = int(os.environ.get("READSET_TRIALS", "100"))
SEED = int(os.environ.get("READSET_SEED", "1"))
EDITS_OF_EACH = 4
ENOUGH = 4 * EDITS_OF_EACH
"""A command that was tried so often must have succeeded once."""


class Report:
    """The figures: `tried`, `succeeded`, `reused` and `same` of all trials and of each command."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self.commands: dict[str, Counter[str]] = {command: Counter() for command in COMMANDS}
        self.missed: Counter[str] = Counter()

    def count(self, command: str, **outcome: bool) -> None:
        for counts in (self.total, self.commands[command]):
            counts["tried"] += 1
            for name, true in outcome.items():
                counts[name] += true

    def miss(self, command: str, difference: Observation) -> None:
        """A reuse that would have been right was refused."""
        kind, path = difference.question
        self.missed[f"{kind} of {path!r} in {command}"] += 1
        self.total[f"missed by {kind.partition(' ')[0]}"] += 1

    def write(self, path: str) -> None:
        shown = {"total": self.total, "commands": self.commands, "missed": dict(self.missed.most_common())}
        Path(path).write_text(json.dumps(shown, indent=1))


def trial(lab: Laboratory, chance: random.Random, command: str, report: Report) -> None:
    """One command over one layer, and some edits of the layer."""
    tree = random_tree(chance)
    layer, tar = lab.layer(tree)
    directory = lab.unpack(layer, tar)
    with lab.workspace(layer, viewed=True) as workspace:
        assert workspace.has_views
        status = run(workspace, command)
        before = made(workspace, status)
        asked = workspace.questions()
    assert asked is not None, f"{command!r} gave no usable log"
    observations = observe(DirectoryTree(directory), asked[1])
    assert first_difference(lab.tar_tree(tar), observations) is None, "the tar answers other than its directory"
    lab.remove(layer, tar)
    for _ in range(EDITS_OF_EACH):
        edited, what = edit(tree, chance)
        layer, tar = lab.layer(edited)
        difference = first_difference(lab.tar_tree(tar), observations)
        lab.unpack(layer, tar)
        with lab.workspace(layer, viewed=False) as workspace:
            status = run(workspace, command)
            after = made(workspace, status)
        lab.remove(layer, tar)
        same = before == after
        report.count(command, succeeded=not before.status, reused=difference is None, same=same)
        if same and difference is not None:
            report.miss(command, difference)
        if difference is None and not same:
            others = set(before.changes) ^ set(after.changes)
            raise AssertionError(f"{command!r} was reused after {what}: {before.status} {after.status} {others}")


def test_reused_results_are_what_running_makes(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    report = Report()
    lab = Laboratory(tmp_path)
    commands: list[str] = []
    while report.total["tried"] < TRIALS:
        if not commands:
            commands = chance.sample(COMMANDS, len(COMMANDS))
        trial(lab, chance, commands.pop(), report)
        if path := os.environ.get("READSET_REPORT"):
            report.write(path)
    assert report.total["reused"] >= report.total["same"] / 4, report.total
    tried = {name: counts for name, counts in report.commands.items() if counts["tried"] >= ENOUGH}
    never = [name for name, counts in tried.items() if not counts["succeeded"] and name not in FAILING]
    assert not never, f"these never did what they are there for: {never}"

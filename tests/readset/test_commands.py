"""The commands of the soundness test do what they are there for: else their reuse would prove nothing."""

from pathlib import Path

from tests.readset.commands import COMMANDS, FAILING, MAKES
from tests.readset.laboratory import Laboratory, made, run
from tests.readset.trees import whole_tree


def test_every_command_succeeds_over_the_whole_project(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path)
    layer, tar = lab.layer(whole_tree())
    lab.unpack(layer, tar)
    wrong = []
    for command in COMMANDS:
        with lab.workspace(layer, viewed=True) as workspace:
            status = run(workspace, command)
            printed = Path(workspace.path, "printed").read_text()
            changed = [entry.path for entry, _ in made(workspace, status).changes]
        if status != FAILING.get(command, 0):
            wrong.append(f"{command}: exit code {status}: {printed}")
        elif (expected := MAKES.get(command)) and not any(path.startswith(expected) for path in changed):
            wrong.append(f"{command}: made no {expected}, but {changed}: {printed}")
    assert not wrong, "\n".join(wrong)
    assert len(set(COMMANDS)) == len(COMMANDS) >= 60
    assert {*FAILING, *MAKES} <= set(COMMANDS)

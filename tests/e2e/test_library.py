"""The public Python API: the verbs as a program calls them, twice in one process."""

from pathlib import Path

import pytest
from tests.e2e.program import Moldar

import moldar


def test_build_run_and_look(with_busybox: Moldar, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY hello /hello\nCMD cat /hello\n")
    (context / "hello").write_text("hello\n")
    with moldar.Engine(moldar.Settings(str(with_busybox.home / "home"))) as engine:
        first = moldar.build(engine, moldar.BuildRequest(str(context), tags=("greeter",)))
        again = moldar.build(engine, moldar.BuildRequest(str(context), tags=("greeter",)))
        assert first.image_id == again.image_id
        assert {image.repository for image in moldar.list_images(engine)} == {"busybox", "greeter"}
        assert moldar.run(engine, "greeter", moldar.RunOptions(remove=True)).exit_code == 0
        assert capfd.readouterr().out == "hello\n"
        assert moldar.history(engine, "greeter")[0].created_by.startswith("CMD")
        assert moldar.remove(engine, "greeter")[-1] == f"Deleted: {first.image_id}"


def test_every_public_name_is_there() -> None:
    for name in moldar._PUBLIC:
        assert callable(getattr(moldar, name)), name
    with pytest.raises(AttributeError):
        moldar.nothing  # noqa: B018

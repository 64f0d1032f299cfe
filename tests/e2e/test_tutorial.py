"""The tutorial's badly ordered Dockerfile, with the real pip: it rebuilds without pip, to the same image."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.program import Moldar
from tests.e2e.test_build import steps
from tests.e2e.test_read_sets import files_of
from tests.e2e.test_stand_ins import SCRIPT

DOCKERFILE = """
FROM python:3.11.6-slim
WORKDIR /app
COPY . .
RUN python -m pip install Flask
EXPOSE 5000
CMD ["python", "app.py"]
"""
INSTALL = "[4/4] RUN python -m pip install Flask"


def test_after_an_edit_pip_does_not_run_and_the_image_is_the_same(moldar: Moldar, tmp_path: Path) -> None:
    listed = subprocess.run([sys.executable, SCRIPT, "--list"], capture_output=True, text=True, check=True)
    moldar("load", "-i", dict(line.split(" ")[:2] for line in listed.stdout.splitlines())["python:3.11.6-slim"])
    context = tmp_path / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "app.py").write_text("print(1)\n")
    (context / "requirements.txt").write_text("Flask\n")
    moldar("build", "-t", "first", context)
    (context / "app.py").write_text("import flask\nprint(2)\n")
    log = moldar.run("build", "--explain", "-t", "reused", context).stderr
    assert steps(log)[INSTALL] is True, log
    assert "none changed" in log
    for name in ("fresh", "again"):
        moldar("build", "--no-cache", "-t", name, context)
    reused, fresh, again = (files_of(moldar, name, tmp_path) for name in ("reused", "fresh", "again"))
    varying = {path for path in fresh if fresh[path] != again.get(path)}  # compiled files hold the time
    assert all(path.endswith(".pyc") for path in varying), varying
    assert reused.keys() == fresh.keys() == again.keys()
    assert {path for path in fresh if fresh[path] != reused[path]} <= varying
    assert all(fresh[path][:4] == reused[path][:4] for path in varying), "modes, owners, links"
    assert moldar("run", "--rm", "reused") == "2\n"

"""What `advise --fix` writes, and what it must leave alone."""

import pytest

from moldar.advice.facts import Facts
from moldar.advice.rewrite import rewrite
from moldar.dockerfile.reading import read_dockerfile

FILES = {
    "app.py": "",
    "requirements.txt": "flask\n",
    "nested.txt": "-r requirements.txt\n",
    "local.txt": "flask\n-e .\n",
    "wheel.txt": "./x.whl\n",
    "package.json": '{"dependencies": {}}',
    "package-lock.json": "{}",
    "go.mod": "module x",
    "src/requirements.txt": "flask\n",
    "hooks/package.json": '{"scripts": {"postinstall": "node x"}}',
}
CACHE = "--mount=type=cache,target=/root/.cache/pip"
NPM = "--mount=type=cache,target=/root/.npm"
APT = (
    "--mount=type=cache,target=/var/cache/apt,sharing=locked"
    " --mount=type=cache,target=/var/lib/apt/lists,sharing=locked"
)


def rewritten(text: str, files: dict[str, str] = FILES) -> str:
    context = tuple((path, len(content)) for path, content in files.items())
    facts = Facts(read_dockerfile(text.encode(), "Dockerfile"), (), context, tuple(files.items()))
    return rewrite(text, facts)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "FROM a\nWORKDIR /app\n# all\nCOPY . .\n\n# packages\nRUN pip install \\\n  -r requirements.txt\nCMD x\n",
            (
                f"FROM a\nWORKDIR /app\nCOPY requirements.txt ./\n\n# packages\nRUN {CACHE} pip install \\\n"
                "  -r requirements.txt\n# all\nCOPY . .\nCMD x\n"
            ),
        ),
        ("FROM a\nCOPY . .\nRUN pip install flask", f"FROM a\nRUN {CACHE} pip install flask\nCOPY . .\n"),
        (
            "FROM a\nCOPY --chown=1 . /app\nWORKDIR /app\nRUN pip install --no-cache-dir -r nested.txt\n",
            (
                f"FROM a\nCOPY --chown=1 nested.txt requirements.txt /app/\nWORKDIR /app\nRUN {CACHE} pip install"
                " -r nested.txt\nCOPY --chown=1 . /app\n"
            ),
        ),
        (
            "FROM a\nWORKDIR /app\nCOPY . .\nRUN npm ci\nRUN node build.js\n",
            (
                f"FROM a\nWORKDIR /app\nCOPY package-lock.json package.json ./\nRUN {NPM} npm ci\nCOPY . .\n"
                "RUN node build.js\n"
            ),
        ),
        (
            "FROM a\nCOPY . /app\nRUN apt-get update \\\n && apt-get install \\\n && rm -rf /var/lib/apt/lists/*\n",
            f"FROM a\nRUN {APT} apt-get update \\\n && apt-get install\nCOPY . /app\n",
        ),
        (
            "FROM a\nWORKDIR /src\nCOPY . .\nRUN go mod download\nRUN go build\n",
            "FROM a\nWORKDIR /src\nCOPY go.mod ./\nRUN go mod download\nCOPY . .\nRUN go build\n",
        ),
        (
            "FROM a\nWORKDIR /x\nCOPY src .\nRUN pip install -r requirements.txt",
            (
                f"FROM a\nWORKDIR /x\nCOPY src/requirements.txt ./\n"
                f"RUN {CACHE} pip install -r requirements.txt\nCOPY src .\n"
            ),
        ),
        ("FROM a\r\nCOPY . .\r\nRUN pip install x\r\n", f"FROM a\r\nRUN {CACHE} pip install x\r\nCOPY . .\r\n"),
    ],
)
def test_rewritten(before: str, after: str) -> None:
    assert rewritten(before) == after
    read_dockerfile(after.encode(), "Dockerfile")
    assert rewritten(after) == after, "a second time nothing is left to do"


@pytest.mark.parametrize(
    "between",
    [
        "RUN pip install .",
        "RUN pip install -e .",
        "RUN pip install -r local.txt",
        "RUN pip install -r wheel.txt",
        "RUN pip install -r missing.txt",
        "RUN pip install x && python app.py",
        "RUN pip install $(cat requirements.txt)",
        "RUN pip install x || cat app.py",
        "RUN pip install ./dist/x.whl",
        "RUN --network=none pip install x",
        "RUN make\nRUN pip install x",
        "COPY other /app/app.py\nRUN pip install x",
        "WORKDIR sub\nRUN pip install -r requirements.txt",
        "VOLUME /app\nRUN pip install x",
        "RUN cd hooks && npm install",
        "RUN npm run build",
        "RUN apt-get install -y ./x.deb",
        "RUN <<E\npip install x\nE",
        'RUN ["pip", "install", "x"]',
    ],
)
def test_the_copy_stays_above_what_may_need_it(between: str) -> None:
    lines = rewritten(f"FROM a\nWORKDIR /app\nCOPY . .\n{between}\n").splitlines()
    assert lines[2] == "COPY . ."


def test_npm_hooks_and_copied_modules_need_the_whole_context() -> None:
    text = "FROM a\nWORKDIR /app\nCOPY . .\nRUN npm install\n"
    hooks = {"package.json": FILES["hooks/package.json"]}
    modules = {"package.json": "{}", "node_modules/x/index.js": ""}
    assert "COPY package" not in rewritten(text, hooks)
    assert "COPY package" not in rewritten(text, modules)
    assert "COPY package.json ./" in rewritten(text, {"package.json": "{}"})


@pytest.mark.parametrize("copy", ["COPY . /", "COPY . /etc/apt", "COPY . /usr/local/bin", "WORKDIR /\nCOPY . ."])
def test_a_copy_that_may_bring_settings_or_programs_stays(copy: str) -> None:
    text = f"FROM a\n{copy}\nRUN apt-get install -y x\n"
    with_settings = rewritten(text, {"etc/apt/sources.list": ""}).splitlines()
    assert "\n".join(with_settings[1:-1]) == copy


def test_arguments_that_the_copy_uses_stay_above_it() -> None:
    text = "FROM a\nCOPY . $DIR\nRUN pip install x\n"
    assert rewritten(text).splitlines()[1] == "COPY . $DIR"

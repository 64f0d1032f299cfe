"""Five projects with the Dockerfiles that people write first, for the tests and measurements of `moldar advise`."""

from pathlib import Path
from typing import NamedTuple

APT_PROGRAM = "zstd"


class Project(NamedTuple):
    """A project: its files by path, the base images that it needs, and what its image prints when run."""

    files: dict[str, str]
    bases: tuple[str, ...]
    prints: str

    def write(self, directory: Path) -> Path:
        """Put the files into `directory`."""
        for path, text in self.files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return directory


PYTHON = Project(
    {
        "Dockerfile": """\
# The web server
FROM python:3.11.6-slim
WORKDIR /app

# everything that we have
COPY . .
RUN pip install --no-cache-dir \\
    -r requirements.txt
ENV PYTHONUNBUFFERED=1
CMD ["python", "app.py"]
""",
        "requirements.txt": "flask==3.0.0\n",
        "app.py": "import flask\nprint('flask is here:', flask.Flask.__name__)\n",
    },
    ("python:3.11.6-slim",),
    "flask is here: Flask\n",
)
NODE = Project(
    {
        "Dockerfile": """\
FROM node:18
WORKDIR /srv/app
COPY . /srv/app
RUN npm install --no-audit --no-fund
EXPOSE 3000
CMD ["node", "server.js"]
""",
        "package.json": '{"name": "hello", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}}\n',
        "server.js": "console.log(require('ms')(60000));\n",
    },
    ("node:18",),
    "1m\n",
)
GO_LIKE = Project(
    {
        "Dockerfile": """\
FROM python:3.11.6-slim AS build
WORKDIR /src
COPY . .
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
RUN gcc -static -O1 -o /hello main.c greet.c

FROM busybox
COPY --from=build /hello /bin/hello
CMD ["hello"]
""",
        "main.c": '#include "greet.h"\nint main(void) { return greet("static"); }\n',
        "greet.c": '#include <stdio.h>\nint greet(const char *n) { return printf("hello %s\\n", n) < 0; }\n',
        "greet.h": "int greet(const char *name);\n",
    },
    ("python:3.11.6-slim", "busybox:latest"),
    "hello static\n",
)
APT = Project(
    {
        "Dockerfile": f"""\
FROM python:3.11.6-slim
COPY . /work
RUN apt-get update \\
    && apt-get install -y --no-install-recommends {APT_PROGRAM} file \\
    && rm -rf /var/lib/apt/lists/*
WORKDIR /work
CMD ["sh", "run.sh"]
""",
        "run.sh": f"echo tools | {APT_PROGRAM} | {APT_PROGRAM} -d\n",
    },
    ("python:3.11.6-slim",),
    "tools\n",
)
MULTI_STAGE = Project(
    {
        "Dockerfile": """\
FROM python:3.11.6-slim
WORKDIR /app
COPY . .
RUN apt-get update && apt-get install -y gcc libc6-dev
RUN pip install requests==2.31.0
RUN gcc -O1 -o /usr/local/bin/speak speak.c
CMD ["sh", "-c", "speak && python app.py"]
""",
        "speak.c": '#include <stdio.h>\nint main(void) { puts("compiled"); return 0; }\n',
        "app.py": "import requests\nprint(requests.__version__)\n",
    },
    ("python:3.11.6-slim",),
    "compiled\n2.31.0\n",
)
PROJECTS = {
    "Python": PYTHON,
    "Node": NODE,
    "Go-like (C, static)": GO_LIKE,
    "apt-heavy": APT,
    "multi-stage candidate": MULTI_STAGE,
}

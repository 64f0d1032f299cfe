"""Shared parts of the suite: cases, build contexts, the base image, image reading and comparing.

Python 3.11 standard library only.
"""

import base64
import fnmatch
import gzip
import hashlib
import http.server
import io
import json
import lzma
import bz2
import os
import random
import re
import shutil
import stat
import subprocess
import tarfile
import threading
import tomllib
from pathlib import Path

DEFAULT_MTIME = 1700000000
BASE_REF = "docker.io/library/busybox:latest"
BASE_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# ---------------------------------------------------------------- cases


class Case:
    """One test case: cases/<group>/<name>.toml below a suite directory."""

    def __init__(self, suite, path):
        self.suite = Path(suite)
        self.path = Path(path)
        self.name = str(self.path.relative_to(self.suite / "cases").with_suffix(""))
        with open(path, "rb") as f:
            self.data = tomllib.load(f)
        known = {
            "description",
            "dockerfile",
            "dockerfile_name",
            "file",
            "http",
            "build_args",
            "target",
            "opts",
            "expect",
            "or_error",
            "error_mentions",
            "error_line",
            "check_mtime",
            "check_created",
            "ignore",
        }
        extra = set(self.data) - known
        if extra:
            raise ValueError(f"{self.name}: unknown keys {sorted(extra)}")
        self.expect = self.data.get("expect", "ok")
        self.opts = self.data.get("opts", {})
        bad = set(self.opts) - {"labels", "contexts", "secrets", "no_cache", "platform", "env"}
        if bad:
            raise ValueError(f"{self.name}: unknown opts {sorted(bad)}")
        self.is_lint = self.name.startswith("lint/")

    @property
    def golden_path(self):
        return self.suite / "golden" / (self.name + ".json")

    def golden(self):
        return json.loads(self.golden_path.read_text())


def load_cases(suite, pattern="*"):
    cases = [Case(suite, p) for p in sorted(Path(suite, "cases").rglob("*.toml"))]
    return [c for c in cases if fnmatch.fnmatch(c.name, pattern) or fnmatch.fnmatch(c.name, f"*{pattern}*")]


class Unsupported(Exception):
    """The machine cannot set this case up (for example, it needs root)."""


def seeded_bytes(size, seed):
    """Reproducible binary data: SHA-256 in counter mode."""
    out = bytearray()
    n = 0
    while len(out) < size:
        out += hashlib.sha256(f"{seed}:{n}".encode()).digest()
        n += 1
    return bytes(out[:size])


def entry_bytes(e):
    if "tar" in e:
        return make_tar(e["tar"], e.get("compress", ""))
    if "size" in e:
        return seeded_bytes(e["size"], e.get("seed", 0))
    if "base64" in e:
        return base64.b64decode(e["base64"])
    return e.get("content", "").encode()


def make_tar(entries, compress=""):
    """A tar archive (PAX) from the sub-entries of a case's file entry."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as t:
        for e in entries:
            ti = tarfile.TarInfo(e["path"])
            ti.mtime = e.get("mtime", DEFAULT_MTIME)
            ti.uid, ti.gid = e.get("uid", 0), e.get("gid", 0)
            ti.uname, ti.gname = e.get("uname", ""), e.get("gname", "")
            data = None
            if e.get("dir"):
                ti.type, mode = tarfile.DIRTYPE, "0755"
            elif "symlink" in e:
                ti.type, ti.linkname, mode = tarfile.SYMTYPE, e["symlink"], "0777"
            elif "hardlink" in e:
                ti.type, ti.linkname, mode = tarfile.LNKTYPE, e["hardlink"], "0644"
            elif e.get("fifo"):
                ti.type, mode = tarfile.FIFOTYPE, "0644"
            else:
                data, mode = entry_bytes(e), "0644"
                ti.size = len(data)
            ti.mode = int(e.get("mode", mode), 8)
            ti.pax_headers = {"SCHILY.xattr." + k: v for k, v in e.get("xattrs", {}).items()}
            t.addfile(ti, io.BytesIO(data) if data is not None else None)
    data = raw.getvalue()
    match compress:
        case "":
            return data
        case "gz":
            return gzip.compress(data, mtime=0)
        case "xz":
            return lzma.compress(data)
        case "bz2":
            return bz2.compress(data)
    raise ValueError(f"unknown compression {compress!r}")


def write_tree(root, entries):
    """Write the file entries of a case below root, with exact modes and times."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    # Builders that keep a synchronized copy of a context know a changed file by its size and time
    # only. The fraction of a second differs from run to run; images hold whole seconds.
    fraction = random.randrange(10**9)

    def set_time(p, mtime):
        ns = mtime * 10**9 + fraction
        os.utime(p, ns=(ns, ns), follow_symlinks=False)

    later = []  # (path, mode, mtime) of directories, set last
    made = {root}

    def parents(p):
        todo = []
        while p not in made:
            todo.append(p)
            made.add(p)
            p = p.parent
        for d in reversed(todo):
            d.mkdir(exist_ok=True)
            d.chmod(0o755)
            later.append((d, None, DEFAULT_MTIME))

    for e in entries:
        p = root / e["path"]
        parents(p.parent)
        mtime = e.get("mtime", DEFAULT_MTIME)
        mode = int(e["mode"], 8) if "mode" in e else None
        if e.get("dir"):
            parents(p)
            later.append((p, mode, mtime))
        elif "symlink" in e:
            p.symlink_to(e["symlink"])
            set_time(p, mtime)
        elif "hardlink" in e:
            os.link(root / e["hardlink"], p)
        else:
            if e.get("fifo"):
                os.mkfifo(p)
            else:
                p.write_bytes(entry_bytes(e))
            p.chmod(mode if mode is not None else 0o644)
        try:
            if "uid" in e or "gid" in e:
                os.chown(p, e.get("uid", 0), e.get("gid", 0), follow_symlinks=False)
                if mode is not None and not e.get("dir"):
                    p.chmod(mode)
            for k, v in e.get("xattrs", {}).items():
                os.setxattr(p, k, v.encode(), follow_symlinks=False)
        except OSError as err:
            raise Unsupported(f"{e['path']}: {err}")
        if not e.get("dir") and "symlink" not in e and "hardlink" not in e:
            set_time(p, mtime)
    for d, mode, mtime in sorted(later, key=lambda x: -len(x[0].parts)):
        if mode is not None:
            d.chmod(mode)
        set_time(d, mtime)
    set_time(root, DEFAULT_MTIME)


class HttpFiles(http.server.ThreadingHTTPServer):
    """A web server on the loopback interface for the http entries of a case."""

    def __init__(self, entries):
        files = {"/" + e["path"]: (entry_bytes(e), e.get("mtime", DEFAULT_MTIME)) for e in entries}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body, mtime = files.get(self.path, (None, 0))
                if body is None:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Last-Modified", self.date_time_string(mtime))
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Workspace:
    """A case laid out on disk: context, named contexts and secrets."""

    def __init__(self, case, root):
        root = Path(root)
        self.case = case
        self.http = HttpFiles(case.data["http"]) if "http" in case.data else None
        self.context = root / "context"
        self.dockerfile = case.data.get("dockerfile_name", "Dockerfile")
        entries = list(case.data.get("file", []))
        if "dockerfile" in case.data:
            text = re.sub(r"%%repeat:(.+?):(\d+)%%", lambda m: m[1] * int(m[2]), case.data["dockerfile"])
            if self.http:
                text = text.replace("%%http%%", self.http.url)
            entries.append({"path": self.dockerfile, "content": text})
        write_tree(self.context, entries)
        self.contexts = {}  # name -> directory or reference
        for name, sub in case.opts.get("contexts", {}).items():
            if "ref" in sub:
                self.contexts[name] = sub["ref"]
            else:
                write_tree(root / "named" / name, sub.get("file", []))
                self.contexts[name] = root / "named" / name
        self.secrets = {}
        for name, text in case.opts.get("secrets", {}).items():
            p = root / "secret" / name
            p.parent.mkdir(exist_ok=True)
            p.write_text(text)
            self.secrets[name] = p
        self.out = root / "out.tar"

    def close(self):
        if self.http:
            self.http.shutdown()
            self.http.server_close()


# ---------------------------------------------------------------- base image

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000::/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
staff:x:50:app
app:x:1000:
nogroup:x:65534:
"""


def base_layer(busybox):
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries = [
        {"path": d, "dir": True}
        for d in ("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/sbin", "var", "var/tmp")
    ]
    entries += [
        {"path": "root", "dir": True, "mode": "0700"},
        {"path": "tmp", "dir": True, "mode": "1777"},
        {"path": "home/app", "dir": True, "uid": 1000, "gid": 1000},
        {"path": "etc/passwd", "content": PASSWD},
        {"path": "etc/group", "content": GROUP},
        {"path": "bin/busybox", "base64": base64.b64encode(Path(busybox).read_bytes()).decode(), "mode": "0755"},
    ]
    entries += [{"path": f"bin/{a}", "symlink": "busybox"} for a in applets if a != "busybox"]
    for e in entries:
        e["mtime"] = 1577836800
    return make_tar(sorted(entries, key=lambda e: e["path"]))


class BaseImage:
    """The busybox image every `FROM busybox` refers to, made from a static busybox binary."""

    def __init__(self, busybox="/bin/busybox"):
        layer = base_layer(busybox)
        blob = gzip.compress(layer, mtime=0)
        self.diff_id = digest(layer)
        config = {
            "created": "2020-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [BASE_PATH], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [self.diff_id]},
            "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "busybox base"}],
        }
        self.config = json.dumps(config).encode()
        self.layer = blob
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest(self.config),
                    "size": len(self.config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": digest(blob),
                        "size": len(blob),
                    }
                ],
            }
        ).encode()
        self.tree = flatten([layer])

    def write_archive(self, path):
        """An OCI layout archive that also carries a docker manifest.json."""
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest(self.manifest),
                    "size": len(self.manifest),
                    "platform": {"architecture": "amd64", "os": "linux"},
                    "annotations": {
                        "io.containerd.image.name": BASE_REF,
                        "org.opencontainers.image.ref.name": "latest",
                    },
                }
            ],
        }
        blobname = lambda b: "blobs/sha256/" + digest(b)[7:]
        docker = [{"Config": blobname(self.config), "RepoTags": ["busybox:latest"], "Layers": [blobname(self.layer)]}]
        files = {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps(index).encode(),
            "manifest.json": json.dumps(docker).encode(),
        }
        for b in (self.config, self.layer, self.manifest):
            files[blobname(b)] = b
        with tarfile.open(path, "w") as t:
            for name, data in files.items():
                ti = tarfile.TarInfo(name)
                ti.size = len(data)
                t.addfile(ti, io.BytesIO(data))


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------- images


def gunzip(data):
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return data


def read_oci(path):
    """(config dict, [uncompressed layer tars]) of an OCI archive."""
    with tarfile.open(path) as t:
        blob = lambda d: t.extractfile("blobs/" + d.replace(":", "/")).read()
        desc = json.load(t.extractfile("index.json"))["manifests"]
        while True:
            desc = [d for d in desc if "vnd.docker.reference.type" not in d.get("annotations", {})]
            doc = json.loads(blob(desc[0]["digest"]))
            if "manifests" not in doc:
                break
            desc = doc["manifests"]
        config = json.loads(blob(doc["config"]["digest"]))
        layers = [gunzip(blob(layer["digest"])) for layer in doc.get("layers") or []]
    diff_ids = config["rootfs"].get("diff_ids") or []
    if diff_ids != [digest(layer) for layer in layers]:
        raise ValueError("rootfs.diff_ids do not match the layers")
    return config, layers


def layer_members(data):
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as t:
        for m in t:
            name = os.path.normpath("/" + m.name).lstrip("/")
            yield t, m, name


def node_of(t, m):
    kind = {
        tarfile.REGTYPE: "file",
        tarfile.AREGTYPE: "file",
        tarfile.CONTTYPE: "file",
        tarfile.GNUTYPE_SPARSE: "file",
        tarfile.DIRTYPE: "dir",
        tarfile.SYMTYPE: "symlink",
        tarfile.FIFOTYPE: "fifo",
        tarfile.CHRTYPE: "char",
        tarfile.BLKTYPE: "block",
    }[m.type]
    n = {"type": kind, "mode": f"{m.mode & 0o7777:04o}", "uid": m.uid, "gid": m.gid, "mtime": int(m.mtime)}
    if kind == "symlink":
        n["target"] = m.linkname
        del n["mode"]  # no meaning on Linux
    elif kind in ("char", "block"):
        n["device"] = f"{m.devmajor}:{m.devminor}"
    elif kind == "file":
        data = t.extractfile(m).read()
        try:
            text = data.decode()
            if len(text) <= 600 and all(c.isprintable() or c in "\n\t\r" for c in text):
                n["text"] = text  # first, so that a difference shows the text and not a hash
        except UnicodeDecodeError:
            pass
        n["size"] = len(data)
        n["sha256"] = hashlib.sha256(data).hexdigest()
    xattrs = {}
    for k, v in m.pax_headers.items():
        if k.startswith("SCHILY.xattr."):
            raw = v.encode("utf-8", "surrogateescape")
            xattrs[k[13:]] = v if v.isprintable() else "base64:" + base64.b64encode(raw).decode()
    if xattrs:
        n["xattrs"] = xattrs
    return n


def flatten(layers):
    """path -> node after applying the layers; hard links share one node object."""
    tree = {"": {"type": "dir", "mode": "0755", "uid": 0, "gid": 0, "mtime": 0}}

    def remove(path, keep_self=False):
        for p in [p for p in tree if p.startswith(path + "/")]:
            del tree[p]
        if not keep_self:
            tree.pop(path, None)

    for data in layers:
        for _, _, name in layer_members(data):  # whiteouts act on lower layers only
            parent, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                if parent:
                    remove(parent, keep_self=True)
                else:
                    root = tree[""]
                    tree.clear()
                    tree[""] = root
            elif last.startswith(".wh."):
                remove(f"{parent}/{last[4:]}".lstrip("/"))
        for t, m, name in layer_members(data):
            if name.rpartition("/")[2].startswith(".wh."):
                continue
            if m.islnk():
                target = os.path.normpath("/" + m.linkname).lstrip("/")
                remove(name)
                tree[name] = tree[target]
                continue
            node = node_of(t, m)
            old = tree.get(name)
            if old and not (old["type"] == node["type"] == "dir"):
                remove(name)
            tree[name] = node
            parent = name
            while parent := parent.rpartition("/")[0]:  # directories without an entry of their own
                tree.setdefault(parent, {"type": "dir", "mode": "0755", "uid": 0, "gid": 0, "mtime": 0})
    return tree


CONFIG_KEYS = (
    "Env",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
)


def summarize(ws, base):
    """The comparable description of a built image."""
    case = ws.case
    config, layers = read_oci(ws.out)
    diff_ids = config["rootfs"].get("diff_ids") or []
    from_base = bool(diff_ids) and diff_ids[0] == base.diff_id
    lower = base.tree if from_base else flatten([])
    tree = flatten(layers)
    check_mtime = case.data.get("check_mtime", False)

    def same(a, b):
        strip = lambda n: {k: v for k, v in n.items() if k != "mtime"}
        return strip(a) == strip(b)

    files = {}
    for path in sorted(tree):
        node = tree[path]
        if path in lower and same(lower[path], node):
            continue
        files["/" + path] = {k: v for k, v in node.items() if k != "mtime" or check_mtime}
    gone = [p for p in lower if p not in tree]
    gone = sorted("/" + p for p in gone if p.rpartition("/")[0] not in gone)
    groups = {}
    for path, node in tree.items():
        groups.setdefault(id(node), []).append("/" + path)
    cfg = config.get("config") or {}
    out = {
        "base": "busybox" if from_base else "scratch",
        "platform": "/".join(filter(None, (config.get("os"), config.get("architecture"), config.get("variant")))),
        "config": {k: cfg[k] for k in CONFIG_KEYS if cfg.get(k)},
        "history": [
            {"created_by": h.get("created_by", ""), "empty_layer": h.get("empty_layer", False)}
            for h in config.get("history") or []
        ],
        "layer_count": len(layers),
        "files": files,
        "deleted": gone,
        "hardlinks": sorted(sorted(g) for g in groups.values() if len(g) > 1),
        "layers": [
            sorted("/" + name for _, _, name in layer_members(data)) for data in layers[1 if from_base else 0 :]
        ],
    }
    if ws.http:
        for h in out["history"]:
            h["created_by"] = h["created_by"].replace(ws.http.url, "%%http%%")
    if config.get("author"):
        out["author"] = config["author"]
    if case.data.get("check_created"):
        out["created"] = config.get("created")
        for h, src in zip(out["history"], config["history"]):
            h["created"] = src.get("created")
    return out


def dump_golden(doc):
    """JSON with one line per file, history entry and layer."""
    one = lambda v: json.dumps(v, ensure_ascii=False)
    lines = []
    for key, value in doc.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {one(k)}: {one(v)}" for k, v in value.items())
            lines.append(f" {one(key)}: {{\n{inner}\n }}")
        elif isinstance(value, list) and value:
            inner = ",\n".join("  " + one(v) for v in value)
            lines.append(f" {one(key)}: [\n{inner}\n ]")
        else:
            lines.append(f" {one(key)}: {one(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


# ---------------------------------------------------------------- comparing

INFORMATION = {"layers"}  # top-level golden fields that are not compared


def comparable(doc, ignore=()):
    """A copy without what is only information, and with builder-specific marks taken off."""
    doc = json.loads(json.dumps({k: v for k, v in doc.items() if k not in INFORMATION and k not in ignore}))
    for h in doc.get("history", []):
        h["created_by"] = h["created_by"].removesuffix(" # buildkit")
        for k in ignore:
            if k.startswith("history."):
                h.pop(k[8:], None)
    return doc


def error_problem(case, output):
    """What a failed build's output lacks of the things any good message must hold, or None.

    Only the end of the output counts: the message, not the progress before it.
    """
    text = "\n".join([line for line in output.splitlines() if line.strip()][-25:]).lower()
    for m in case.data.get("error_mentions", []):
        if m.lower() not in text:
            return f"the message does not mention {m!r}"
    if (n := case.data.get("error_line")) is not None:
        name = re.escape(case.data.get("dockerfile_name", "Dockerfile").rpartition("/")[2].lower())
        if not re.search(rf"\bline:? {n}\b|{name}:{n}\b", text):
            return f"the message does not name line {n}"
    return None


def first_difference(want, got, where=""):
    """A line naming the first place where two JSON values differ, or None."""
    if type(want) is not type(got):
        return f"{where}: want {short(want)}, got {short(got)}"
    if isinstance(want, dict):
        for k in want:
            if k not in got:
                return f"{where}[{k}]: missing, want {short(want[k])}"
            if d := first_difference(want[k], got[k], f"{where}[{k}]" if where else k):
                return d
        for k in got:
            if k not in want:
                return f"{where}[{k}]: not expected, got {short(got[k])}"
        return None
    if isinstance(want, list):
        for i, (a, b) in enumerate(zip(want, got)):
            if d := first_difference(a, b, f"{where}[{i}]"):
                return d
        if len(want) != len(got):
            which, rest = (
                ("missing", want[len(got) :]) if len(want) > len(got) else ("not expected", got[len(want) :])
            )
            return f"{where}[{min(len(want), len(got))}]: {which} {short(rest[0])}"
        return None
    return None if want == got else f"{where}: want {short(want)}, got {short(got)}"


def short(v):
    s = json.dumps(v, ensure_ascii=False)
    return s if len(s) <= 160 else s[:157] + "..."


def remove_tree(path):
    def fix(func, p, exc):
        os.chmod(os.path.dirname(p), stat.S_IRWXU)
        os.chmod(p, stat.S_IRWXU)
        func(p)

    shutil.rmtree(path, onerror=fix)

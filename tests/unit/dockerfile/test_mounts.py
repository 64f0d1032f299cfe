"""Options of RUN --mount."""

import pytest

from moldar.dockerfile.mounts import RunMount, mount_sources, parse_mounts
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import Expander

VALUES = {"ID": "pip", "TYPE": "cache"}


def mount(text: str) -> RunMount:
    (only,) = parse_mounts([text], Expander(VALUES.get))
    return only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", RunMount("bind", "/x")),
        ("type=bind,source=a,dst=/x,from=base,rw", RunMount("bind", "/x", "a", "base", readonly=False)),
        ("src=a,destination=/x,readwrite=false", RunMount("bind", "/x", "a")),
        ("type=cache,target=/x", RunMount("cache", "/x", readonly=False)),
        ("TYPE=Cache,Target=/x,ro,id=a", RunMount("cache", "/x", readonly=True, cache_id="a")),
        (
            "type=cache,target=/x,sharing=LOCKED,mode=0755,uid=1,gid=2",
            RunMount("cache", "/x", readonly=False, sharing="locked", mode=0o755, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/x,size=1.5g", RunMount("tmpfs", "/x", readonly=False, size=3 << 29)),
        ("type=secret,id=x", RunMount("secret", cache_id="x")),
        ("type=secret,id=x,env=TOKEN,required", RunMount("secret", cache_id="x", env="TOKEN", required=True)),
        ("type=ssh,required=true,mode=600", RunMount("ssh", required=True, mode=0o600)),
        ("type=$TYPE,id=${ID}-x,target='/a b'", RunMount("cache", "/a b", readonly=False, cache_id="pip-x")),
        ('type=bind,"target=/a,b"', RunMount("bind", "/a,b")),
    ],
)
def test_mounts(text: str, expected: RunMount) -> None:
    assert mount(text) == expected


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("type=bnd,target=/x", 'unsupported mount type "bnd"', "did you mean bind?"),
        ("target", "invalid field 'target' must be a key=value pair", ""),
        ("tarket=/x", "unexpected key 'tarket' in 'tarket=/x'", "did you mean target?"),
        ("type=bind,size=1m", "unexpected key 'size' for mount type 'bind'", ""),
        ("required,type=secret,id=x", "unexpected key 'required' for mount type 'bind'", "type= comes first"),
        ("type=tmpfs,size=lots", "invalid value for size: lots", ""),
        ("type=cache,sharing=open", 'unsupported sharing value "open"', "it may be shared, private, locked"),
        ("type=cache,mode=9", "invalid value 9 for mode", ""),
        ("type=cache,uid=-1", "invalid value -1 for uid", ""),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid", ""),
        ("type=cache,ro=maybe", "invalid value for readonly: maybe", ""),
        ("type=bind,mode=0755", 'mode not allowed for "bind" type mounts', ""),
        ("type=secret", "invalid secret mount", ""),
        ("type=secret,id=a,source=b", "both source and id", ""),
        ("type=secret,id=a,from=b", "secret mount should not have a from", ""),
        ("type=bind,sharing=locked", "invalid cache sharing set for bind mount", ""),
        ('type=bind,target="x', "a quote may only enclose the whole", ""),
        ('"type=bind', "a quote is not closed", ""),
        ('"type=bind"x', "a quote may only enclose the whole", ""),
        ("target=${x", "missing '}'", ""),
    ],
)
def test_mistakes(text: str, problem: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        mount(text)
    assert problem in caught.value.problem
    assert hint in caught.value.hint


def test_sources_are_known_before_expansion() -> None:
    assert mount_sources(["type=bind,from=a,target=/x", "from=b", "target=/y"]) == ("a", "b")
    with pytest.raises(DockerfileError, match="doesn't support variable expansion"):
        mount_sources(["from=$a"])

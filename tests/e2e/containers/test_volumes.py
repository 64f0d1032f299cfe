"""`volume` and what containers do with volumes."""

import json
import os
from typing import Any

import pytest

House = Any
Moldar = Any


def test_create_list_inspect_and_remove(moldar: Moldar) -> None:
    assert moldar("volume", "create", "--label", "tier=db", "--label", "kept", "data") == "data\n"
    assert moldar("volume", "create", "data") == "data\n", "one that is there stays as it is"
    anonymous = moldar("volume", "create").strip()
    assert len(anonymous) == 64
    assert (
        moldar("volume", "ls")
        == f"DRIVER   VOLUME NAME\n{''.join(f'local    {n}' + chr(10) for n in sorted(['data', anonymous]))}"
    )
    assert moldar("volume", "ls", "-q", "-f", "name=dat") == "data\n"
    (document,) = json.loads(moldar("volume", "inspect", "data"))
    assert document["Labels"] == {"tier": "db", "kept": ""}
    assert os.path.isdir(document["Mountpoint"])
    assert {"CreatedAt", "Driver", "Name", "Options", "Scope"} <= document.keys()
    assert moldar("volume", "inspect", "-f", "{{.Name}} {{.Driver}}", "data") == "data local\n"
    assert moldar("inspect", "--type", "volume", "-f", "{{.Scope}}", "data") == "local\n"
    assert moldar("volume", "rm", "data", anonymous) == f"data\n{anonymous}\n"
    assert moldar("volume", "ls", "-q") == ""


def test_filters_and_formats(moldar: Moldar, house: House) -> None:
    for name, label in (("one", "tier=db"), ("two", "tier=web")):
        moldar("volume", "create", "--label", label, name)
    house.create("true", volumes=("two:/data",))
    assert moldar("volume", "ls", "-q", "--filter", "label=tier=db") == "one\n"
    assert moldar("volume", "ls", "-q", "--filter", "label=tier", "--filter", "driver=local") == "one\ntwo\n"
    assert moldar("volume", "ls", "-q", "--filter", "dangling=true") == "one\n"
    assert moldar("volume", "ls", "-q", "--filter", "dangling=0") == "two\n"
    template = 'table {{.Name}}\t{{.Label "tier"}}\t{{.Links}}\t{{.Size}}'
    assert moldar("volume", "ls", "--format", template).splitlines()[1:] == [
        "one           db     0       0B",
        "two           web    1       0B",
    ]
    assert [json.loads(line)["Name"] for line in moldar("volume", "ls", "--format", "json").splitlines()] == [
        "one",
        "two",
    ]
    assert "invalid filter 'colour'" in moldar.fails("volume", "ls", "--filter", "colour=red")
    assert "invalid filter 'dangling=maybe'" in moldar.fails("volume", "ls", "--filter", "dangling=maybe")


def test_a_volume_in_use_stays(moldar: Moldar, house: House) -> None:
    stopped = house.create("true", volumes=("data:/data",))
    assert f"remove data: volume is in use - [{stopped}]" in moldar.fails("volume", "rm", "data")
    assert "in use" in moldar.fails("volume", "rm", "-f", "data")
    assert "get nope: no such volume" in moldar.fails("volume", "rm", "nope")
    assert moldar("volume", "rm", "-f", "nope") == "nope\n"
    moldar("rm", stopped)
    assert moldar("volume", "rm", "data") == "data\n"


@pytest.mark.parametrize("name", ["../x", "a", ".hidden", "a/b", "-x"])
def test_names_are_checked(moldar: Moldar, name: str) -> None:
    assert "invalid characters" in moldar.fails("volume", "create", "--", name)


def test_drivers_and_options_that_there_are_not(moldar: Moldar) -> None:
    assert 'plugin "nfs" not found' in moldar.fails("volume", "create", "-d", "nfs", "data")
    assert "takes no option" in moldar.fails("volume", "create", "-o", "type=tmpfs", "data")


def test_prune_takes_anonymous_volumes_and_all_on_demand(moldar: Moldar, house: House) -> None:
    moldar("volume", "create", "--label", "keep", "named")
    moldar("volume", "create", "other")
    anonymous = moldar("volume", "create").strip()
    used = house.create("true", volumes=("/data",))
    (mount,) = house.containers.view(used).definition.mounts
    text = moldar("volume", "prune", "--force")
    assert text == f"Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: 0B\n"
    assert "Are you sure" in moldar("volume", "prune", stdin=b"n\n")
    assert "Deleted Volumes:\nother\n" in moldar("volume", "prune", "-af", "--filter", "label!=keep")
    assert moldar("volume", "ls", "-q").split() == sorted(["named", mount.name])
    house.containers.remove(used)  # without -v its anonymous volume stays
    moldar("volume", "create", "third")
    assert "Deleted Volumes:" in moldar("system", "prune", "-f", "--volumes")
    assert moldar("volume", "ls", "-q").split() == ["named", "third"], "named ones are not system prune's"


def test_a_volume_that_was_made_before_is_filled_from_the_image(moldar: Moldar, house: House) -> None:
    moldar("volume", "create", "site")
    assert house.run("cat", "/www/index.html", volumes=("site:/www",)) == (0, b"hello from busybox")


def test_a_killed_removal_leaves_no_volume(moldar: Moldar, house: House) -> None:
    moldar("volume", "create", "data")
    os.rename(f"{house.home.volumes}/data", f"{house.home.volumes}/.removed-0123")
    assert moldar("volume", "ls", "-q") == ""
    moldar("volume", "create", "other")
    moldar("volume", "rm", "other")
    assert os.listdir(house.home.volumes) == []


def test_volumes_without_a_record_are_known_by_their_names(moldar: Moldar, house: House) -> None:
    for name in ("old", "ab" * 32):
        os.makedirs(f"{house.home.volumes}/{name}/_data")
    assert "ab" * 32 in moldar("volume", "prune", "-f")
    assert moldar("volume", "ls", "-q") == "old\n"

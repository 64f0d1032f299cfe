"""What a plan is made from and what it is: the request, the resolver of base images, and the plan itself."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from moldar.builder.graph import Graph, HostEntry, Ulimit
from moldar.image.config import HistoryEntry, ImageConfig
from moldar.image.model import Digest, Platform
from moldar.image.reference import Reference


class NamedContext(NamedTuple):
    """The value of --build-context. `kind`: local (a directory), image, oci-layout, git or http.

    `location` is a path, reference or URL. Only local and image are planned here; the caller turns the others into
    one of them.
    """

    kind: str
    location: str


class Unset(NamedTuple):
    """What the image shall not have although its base or an instruction says so: paths, ports, names."""

    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class PlanOptions(NamedTuple):
    """What the command line asks besides the Dockerfile.

    `target`: a stage's name or number, empty for the last. `source_date_epoch` is text as given (environment or
    --build-arg), empty for none. `build_platform` is this machine's. `entitlements` holds what --allow grants.
    `reproducible`: layers get no date but that one. `unset` is for the final image only: steps see what there was.
    `one_id`: there are no ids for other owners of files.
    """

    build_args: Mapping[str, str] = {}
    target: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    platform: Platform = Platform()
    build_platform: Platform = Platform()
    contexts: Mapping[str, NamedContext] = {}
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    network: str = "default"
    hosts: tuple[HostEntry, ...] = ()
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    source_date_epoch: str = ""
    reproducible: bool = False
    unset: Unset = Unset()
    entitlements: frozenset[str] = frozenset()
    multi_platform: bool = False
    one_id: bool = False


class ImageRequest(NamedTuple):
    """An image that a stage needs. `line` is the Dockerfile's line that names it."""

    reference: Reference
    platform: Platform
    line: int = 0


class ResolvedImage(NamedTuple):
    """A base image: its config, and the digest of its manifest. Its layers need not be here.

    `reference` is the full name without digest; `digest` may be empty for an image that exists only here.
    """

    reference: str
    digest: Digest | None
    config: ImageConfig


class ImageResolver(Protocol):
    """Finds images by name, without their layers. Given all images of one round, so that it may ask in parallel.

    Raises NotFound or RegistryRefused when an image cannot be had.
    """

    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]: ...


class HistoryStep(NamedTuple):
    """A history entry to be; `vertex` is the index of the vertex that makes its layer, -1 for an empty layer."""

    created_by: str
    vertex: int = -1
    comment: str = ""


class Plan(NamedTuple):
    """A build, ready to be solved and then finished.

    `image` is the final config but for `created`, `history` and `diff_ids`; `base_history` and `steps` become the
    history. `layer_vertices` are the vertices that add the layers above the base, lowest first. `stage` is the
    target stage's name or number; `stages` all stage names in order ("" for unnamed ones). `epoch` is
    SOURCE_DATE_EPOCH in seconds.
    """

    graph: Graph
    image: ImageConfig
    base_history: tuple[HistoryEntry, ...]
    steps: tuple[HistoryStep, ...]
    layer_vertices: tuple[int, ...]
    stage: str
    stages: tuple[str, ...]
    epoch: int | None = None

"""What a layer holds that the program does not need: package caches, and tools that only build."""

import re

from moldar.advice.facts import Advice, Facts, Layer, size_text
from moldar.advice.order import step_text
from moldar.dockerfile.instructions import Instruction

_CACHES = re.compile(
    r"(?:var/cache/apt|var/lib/apt/lists|var/cache/apk|root/\.cache|root/\.npm|usr/local/share/\.cache|var/cache/yum"
    r"|root/\.cargo/registry|usr/local/cargo/registry)/"
)
_TOOLS = re.compile(
    r"usr/(?:local/)?(?:include|lib/gcc|libexec/gcc|lib/gcc-cross|share/man|share/doc)/"
    r"|usr/lib/.*\.(?:a|o)\Z|usr/lib/(?:[\w-]+/)?(?:libasan|libtsan|liblsan|libubsan|libcc1|libopcodes|libbfd)[\w.-]*\Z"
    r"|(?:usr/)?bin/(?:[\w]+-linux-gnu-)?(?:gcc|g\+\+|cpp|c\+\+|as|ld|gold|dwp|make|gdb|cmake|lto-dump|objdump)(?:[.-][\w.]*)?\Z"
    r"|usr/local/go/"
)
_LEAST = 100_000


def advise_weight(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each layer of the last image with such weight, in bytes measured there."""
    found = []
    for layer in facts.layers or ():
        line = line_of(facts, layer)
        cache = sum(file.size for file in layer.files if _CACHES.match(file.path))
        tools = sum(file.size for file in layer.files if _TOOLS.match(file.path))
        if cache >= _LEAST:
            message = f"this layer of {size_text(layer.size)} keeps {size_text(cache)} of package caches"
            found.append(Advice("package-cache", line, message, size=cache))
        if tools >= _LEAST and layer.text.startswith("RUN"):
            message = (
                f"this layer of {size_text(layer.size)} has {size_text(tools)} of compilers, headers and manuals:"
                " a stage of its own for building would leave them out of the image"
            )
            found.append(Advice("multi-stage", line, message, size=tools))
    return tuple(found)


def line_of(facts: Facts, layer: Layer) -> int:
    """The line of the last stage that made `layer`; 0 when it cannot be told."""
    items: list[Instruction] = [item for stage in facts.file.stages for item in stage.instructions]
    text = step_text(layer.text)
    return next((item.origin.location.start for item in reversed(items) if step_text(item.origin.text) == text), 0)

"""Write the bill of materials of a release, its packages in the form of CycloneDX: equal input makes equal bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from tasks.engine.release.wheel_cache import Wheel
    from tasks.engine.release.wheelhouse import Wheelhouse

NAME = "sbom.json"
_VERSION = "1.6"
"""The version of CycloneDX."""


def render(service: str, release: str, wheelhouse: Wheelhouse) -> bytes:
    """Return the file `sbom.json` of a release, for the target of these wheels; it has no time and nothing random."""
    main = f"{service}@{release}"
    packages = sorted(map(_component, wheelhouse.wheels), key=lambda one: str(one["bom-ref"]))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": _VERSION,
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": main, "name": service, "version": release}},
        "components": packages,
        "dependencies": [{"ref": main, "dependsOn": [one["bom-ref"] for one in packages]}] if packages else [],
    }
    return _text({**document, "serialNumber": _serial(_text(document))})


def _text(document: dict[str, object]) -> bytes:
    """Write the document, a package a line. The indent of `json` takes five times as long."""
    return json.dumps(document, sort_keys=True).replace(', {"bom-ref"', ',\n{"bom-ref"').encode() + b"\n"


def _serial(text: bytes) -> str:
    """Return a UUID of the content, in the version that RFC 9562 leaves to applications."""
    digits = hashlib.sha256(text).hexdigest()
    return f"urn:uuid:{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


def _component(wheel: Wheel) -> dict[str, object]:
    """Return a package. Its digest is that of the wheel, which this machine may have built."""
    name, version = wheel.filename.split("-")[:2]
    place = f"pkg:pypi/{canonicalize_name(name)}@{version.replace('!', '%21').replace('+', '%2B')}"
    return {
        "type": "library",
        "bom-ref": place,
        "name": canonicalize_name(name),
        "version": version,
        "purl": place,
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
    }

"""What the package's sources are now: compiled code made from others is stale."""

import hashlib
from functools import cache
from pathlib import Path


@cache
def source_digest() -> str:
    """A digest of every source file of the package."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()

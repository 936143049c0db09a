"""Which code kept results are of: resuming must not mix old and new in silence."""

import hashlib
from collections.abc import Container
from functools import cache
from pathlib import Path

from rich.console import Console

from tallynode.lab.lines import lines_of

PACKAGE = Path(__file__).parents[1]


@cache
def code_digest() -> str:
    """Digest of this package's own sources, as they stand at the first call.

    Ask for it where runs are begun: what works for them later may find other files than it runs.
    """
    digest = hashlib.blake2b(digest_size=12)
    for file in sorted(PACKAGE.rglob("*.py")):
        body = file.read_bytes()
        digest.update(f"{file.relative_to(PACKAGE)} {len(body)} ".encode() + body)
    return digest.hexdigest()


def tell_of_other_code(file: Path, key: str, used: Container[str], console: Console) -> None:
    """Say how many of the runs that are used from a file are not of the code as it stands.

    Args:
        file: of lines that say `code`; one that does not is of other code.
        key: what a line calls its run's key.
        used: the keys in question.
        console: where it is said.
    """
    now = code_digest()
    codes = {line[key]: line.get("code") for line in lines_of(file) if line.get(key) in used}
    others = sum(code != now for code in codes.values())
    if others:
        said = f"{others} of {len(codes)} runs are of other code; remove {file} to run them anew"
        console.print(said, markup=False, soft_wrap=True)

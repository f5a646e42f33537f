"""Whether a file that SQLite calls no database is an encrypted one: looked at only then, and in another process.

Closing any descriptor of a database drops this process's locks on it, whoever in the process holds them; so the beginning
of the file is read by a child. Encrypted pages look like chance: all bytes about equally often, and the file is made of
whole pages. Text, programs and images do not; compressed files may, but for their size.

This module must never import anything of Twinstep. Read next: `local_connection.py`.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path
from typing import Final

SMALLEST_PAGE: Final = 512
LOOKED_AT: Final = 4096
CHILD_SECONDS: Final = 10.0
# Of 512 bytes drawn by chance about 7.6 bits each are left, of 4096 about 7.95; text has 4 to 5, programs 5 to 6.5.
CHANCE_BITS: Final = 7.2

_READ: Final = (
    "import os, sys; file = open(sys.argv[1], 'rb'); print(os.fstat(file.fileno()).st_size, file.read(int(sys.argv[2])).hex())"
)


def looks_encrypted(path: Path) -> bool:
    """Whether it may be an encrypted database; False where nobody can tell."""
    import subprocess  # only where opening has failed

    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _READ, str(path), str(LOOKED_AT)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    size, _, beginning = child.stdout.strip().partition(" ")
    content = bytes.fromhex(beginning)
    return len(content) >= SMALLEST_PAGE and int(size) % SMALLEST_PAGE == 0 and bits_of_chance(content) > CHANCE_BITS


def bits_of_chance(content: bytes) -> float:
    """Shannon's entropy of the bytes, 0 to 8.

    >>> bits_of_chance(b"aaaa"), bits_of_chance(bytes(range(256)))
    (0.0, 8.0)
    """
    total = len(content)
    return sum(count / total * math.log2(total / count) for count in Counter(content).values())

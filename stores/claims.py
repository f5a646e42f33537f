"""What a handle of a log knows of the pairs that it has claimed: a random token each, and whether the log holds it yet.

A claim takes a pair's log over. The token is written with the handle's next append to the pair, in the same commit, and
each later append compares it there: of two coordinators that both believe to hold the lock, the one whose first append came
last goes on, and the other one is told so (T403). Random, never counted: an old copy of the log that is put back would rewind
a counter.

This module must never do I/O. Read next: `port.py`.
"""

from __future__ import annotations

from secrets import token_hex

from attrs import frozen

from ..events.errors import LostLock


@frozen(kw_only=True)
class Claim:
    """A pair's token. `is_new`: the next append is the first one under it, and writes it."""

    pair: str
    token: str
    is_new: bool

    def check(self, found: str | None) -> None:
        """Raise LostLock (T403) where the log holds another token than the one that was written."""
        if not self.is_new and found != self.token:
            raise taken_over(self.pair)


class Claims:
    """The claims of one handle."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def draw(self, pair: str) -> None:
        """Claim the pair with a fresh token; nothing is written yet."""
        self._claims[pair] = Claim(pair=pair, token=token_hex(16), is_new=True)

    def of(self, stream: str) -> Claim | None:
        """The claim under which an append to the stream takes place; None where its pair was never claimed here."""
        return self._claims.get(stream.partition("/")[0])

    def written(self, claim: Claim | None) -> None:
        """The log holds the claim's token now."""
        # Not where the pair was claimed anew meanwhile, by another thread.
        if claim is not None and claim.is_new and self._claims.get(claim.pair) is claim:
            self._claims[claim.pair] = Claim(pair=claim.pair, token=claim.token, is_new=False)


def taken_over(pair: str) -> LostLock:
    """The refusal of a handle whose pair was claimed by another one since."""
    return LostLock("T403", pair=pair)

"""What of a written word is heard, and what it is found by."""

from __future__ import annotations

import unicodedata
from functools import lru_cache


@lru_cache(maxsize=4096)  # the same words are looked at again with each step
def normalized(text: str) -> str:
    """Reduce a word to what is heard of it: folded case, letters, digits and apostrophes."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    # Marks (M) carry vowels in many scripts: they are heard.
    return "".join(c for c in folded if c == "'" or unicodedata.category(c)[0] in "LNM")


def folded(text: str) -> str:
    """Return a text as it is searched: case and forms of characters make no difference."""
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("\0", "")

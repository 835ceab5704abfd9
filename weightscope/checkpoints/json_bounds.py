"""How much a JSON text can spell, told by scans of its bytes: the absurd is refused before it is parsed.

A value takes two bytes of text and 8 to 200 of memory: 100 MB of JSON may become gigabytes.
"""

import re

# Possessive, and it ends where the text does: otherwise each quote of an unclosed string would be looked at
# from each quote before it.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def spells_more_values(content: bytes, limit: int) -> bool:
    """Whether this may hold more than `limit` values, those inside of others counted too.

    Text that is no JSON gets either answer.
    """
    if _most_values(content) <= limit:
        return False
    # Each value has a string or its key is one. A quote behind a backslash is part of a string, or ends one
    # that ends in a backslash: then it is missed, and one of two quotes still counts.
    if content.count(b'"') - content.count(rb"\"") > 4 * limit:
        return True
    return _most_values(_STRING.sub(b"", content)) > limit


def _most_values(content: bytes) -> int:
    """Every value but the first stands behind a comma or is the first in a list or an object."""
    return 1 + content.count(b",") + content.count(b"[") + content.count(b"{")

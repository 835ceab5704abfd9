"""Signed addresses of the storage: they name a file, run out, and cannot be made by a client."""

import hashlib
import hmac
import threading
import time
from collections import Counter
from itertools import count
from urllib.parse import parse_qs, quote, urlencode

_KEY = b"the key of a loopback server guards nothing"


class Signer:
    """Signs, checks, and counts how often each signature was used.

    Attributes:
        lifetime: Seconds for which a new signature is good.
    """

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.lifetime = lifetime
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._uses: Counter[str] = Counter()

    def sign(self, path: str, name: str) -> str:
        """`path` with the query that makes it an address; each call gives another signature."""
        with self._lock:
            number = next(self._numbers)
        now = time.time()
        fields = {
            "response-content-disposition": f"inline; filename*=UTF-8''{quote(name.rpartition('/')[2])}",
            "file": name,
            "Issued": f"{now:.3f}",
            "Expires": f"{now + self.lifetime:.3f}",
            "Key-Pair-Id": f"K{number}",
        }
        return f"{path}?{urlencode(fields | {'Signature': _signature(path, fields)})}"

    def refuse(self, path: str, query: str) -> str | None:
        """Why the address is not good, or None. Fields besides the signed ones do not matter."""
        fields = {name: values[-1] for name, values in parse_qs(query).items()}
        signature = fields.get("Signature", "")
        if not hmac.compare_digest(signature, _signature(path, fields)):
            return "SignatureDoesNotMatch"
        return "Request has expired" if time.time() > float(fields["Expires"]) else None

    def use(self, query: str) -> None:
        """Count one use."""
        with self._lock:
            self._uses[_signature_in(query)] += 1

    def seen(self, query: str) -> tuple[int, float]:
        """How often the signature was used, and its age in seconds."""
        issued = float(parse_qs(query).get("Issued", ["0"])[-1])
        return self._uses[_signature_in(query)], time.time() - issued


def _signature_in(query: str) -> str:
    return parse_qs(query).get("Signature", [""])[-1]


def _signature(path: str, fields: dict[str, str]) -> str:
    signed = "\n".join(
        [path, *(fields.get(name, "") for name in ("file", "Issued", "Expires", "Key-Pair-Id"))]
    )
    return hmac.new(_KEY, signed.encode(), hashlib.sha256).hexdigest()

"""Bodies that are not the file's bytes."""

from tests.hub.reply import Slice


class Rotated(Slice):
    """As many bytes from another place of the file, around its end if need be."""

    def __init__(self, body: Slice, shift: int) -> None:
        super().__init__(body.blob, body.start, body.stop)
        self.fd = None  # not the file's own bytes: no sendfile
        self._shift = shift

    def read(self, offset: int, count: int) -> bytes:
        start = (self.start + offset + self._shift) % self.blob.size
        count = min(count, self.size - offset)
        piece = bytes(self.blob.read(start, count))
        return piece + bytes(self.blob.read(0, count - len(piece)))


class Flipped(Slice):
    """The right bytes but one.

    Args:
        body: The honest body.
        place: Index of the byte within it.
        mask: What it is XORed with.
    """

    def __init__(self, body: Slice, place: int, mask: int) -> None:
        super().__init__(body.blob, body.start, body.stop)
        self.fd = None
        self._place, self._mask = place, mask

    def read(self, offset: int, count: int) -> bytes:
        piece = bytearray(super().read(offset, count))
        if offset <= self._place < offset + len(piece):
            piece[self._place - offset] ^= self._mask
        return bytes(piece)

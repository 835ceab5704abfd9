"""The numbers of a matrix: norms, largest singular value, spectrum, and what follows. Floor 3."""

"""The papers' experiments. Floor 8."""

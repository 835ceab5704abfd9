"""The papers' experiments: one file each, readable from top to bottom. Floor 8."""

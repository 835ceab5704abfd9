"""The families themselves, by kind. Literals only; `registry.py` puts them together."""

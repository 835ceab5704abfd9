"""Recipes: a published table or figure as a file, and what runs it. Floor 9, between `analyze` and the CLI.

The files themselves lie in `recipes/` of a checkout and in `weightscope/recipes/shipped/` of a wheel.
"""

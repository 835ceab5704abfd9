"""Passes over a matrix in C, built with the package where there is a compiler."""

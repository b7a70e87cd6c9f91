"""Plates: where a graph is repeated, the members of the repeated parts, and distributions over them."""

"""Nodes of the graph: params, modules and collections, their links and values."""

"""Calls of forward methods: the values of one call, and how they are given to it."""

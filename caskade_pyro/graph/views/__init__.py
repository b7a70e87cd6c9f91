"""A graph for people to look at: printed, described, and the place where diagrams plug in."""

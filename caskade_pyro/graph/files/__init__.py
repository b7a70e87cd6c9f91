"""States of a graph in HDF5 files."""

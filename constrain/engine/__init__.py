"""Kernels and the pool of states that they work on."""

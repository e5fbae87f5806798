"""Uniqueness beside the rules: no key twice in an object (kernels over the keys used so far)."""

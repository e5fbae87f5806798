"""Uniqueness beside the rules: kernels that tell tokens which repeat a key or an item."""

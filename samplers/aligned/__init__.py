"""Samples that follow the model given the grammar."""

"""Free text up to a trigger, and the grammar behind it."""

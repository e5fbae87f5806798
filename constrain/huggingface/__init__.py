"""Adapters to ``transformers``: the logits processor and extraction."""

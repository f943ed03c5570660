"""Changing a model's architecture: its flattened graph, which channels go together, and the surgery."""

"""From a model, a recipe and data to a measured result."""

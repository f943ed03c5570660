"""One file per model: each has `build(...)`, whose keyword arguments are the model's configuration."""

"""One file per export format: `suffixes` it is chosen by, and `write(model, path, **options)`."""

"""The kinds of LiteRT files that models are timed as: one file each, with `shares(model)`."""

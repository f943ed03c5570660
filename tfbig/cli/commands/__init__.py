"""One file per command: `HELP`, `EXAMPLE`, `add_arguments(parser)` and `run(arguments)`.

What is heavy is imported in `run`, so that `tfbig --help` answers at once.
"""

"""One file per command: `HELP`, `EXAMPLE`, `add_arguments(parser)` and `run(arguments)`.

`run` prints for people, unless `--json` was given, and returns what `--json` prints. What is heavy is imported in
`run`, so that `tfbig --help` answers at once.
"""

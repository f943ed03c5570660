"""The `tfbig` command: one file per command in `commands`."""

"""One file per technique; its class carries the file's name as `name`."""

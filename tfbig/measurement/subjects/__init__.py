"""One file per kind of file that can be measured: `suffixes` and `open_file(path)`."""

"""The sources of data: each file here is one, and adding a file adds a source.

A source has `ARGUMENT` (what stands after the colon of its spec, or None), `recognises(path)` (whether a bare
path is one of its own) and `load(argument, options)`, which returns `tfbig.data.Data`.
"""

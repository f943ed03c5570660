"""Model files of Keras 1 and 2, rebuilt in Keras 3.

A file gives a configuration and arrays, never code. `graph` rebuilds the model from the configuration, with
`layers` (for Keras 1 first `keras1`) for each layer and `tf_ops` for each raw TensorFlow operation. `weights`
puts the arrays in. `h5_file`, `archive` and `saved_model` read the three kinds of file.
"""

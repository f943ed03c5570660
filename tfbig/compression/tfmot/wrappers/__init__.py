"""One file per technique that TFMOT has: its options, how it wraps a tf_keras model, and how it lets go of it."""

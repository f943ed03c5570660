"""The `tfmot` engine: TFMOT's own pruning, clustering and quantization, for tf_keras and for Keras 3 models."""

"""One file per repair of what quantization after training spoils: `repair(file, samples, bits)`.

A repair works on the float LiteRT file (`litert_layers.FloatFile`) before it is quantized: BatchNormalization is folded
into the weights there, whatever the model was written in. It changes weights and biases in place.
"""

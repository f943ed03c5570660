"""One file per repair of what quantization after training spoils: `repair(file, samples, bits)`, and its `ORDER`.

A repair works on the float LiteRT file (`litert_layers.FloatFile`) before it is quantized: BatchNormalization is folded
into the weights there, whatever the model was written in. One that keeps what the network computes changes `weights`
and `bias` of its layers; one that answers to rounding sets `chosen_weights` and `chosen_bias`. `ORDER` is its place
among the others, whatever the order in which a user names them.
"""

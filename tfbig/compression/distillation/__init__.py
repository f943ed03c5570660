"""The parts of `Distill`: teachers, losses, the model that trains, and the cache of what teachers say."""

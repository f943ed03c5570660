"""What a search chooses from: one file for each choice, with `choice`, a `tfbig.tuning.choice.Choice`."""

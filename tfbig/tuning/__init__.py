"""Search for the best recipe or the best hyperparameters under a budget, on KerasTuner."""

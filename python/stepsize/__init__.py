"""stepsize sets, schedules and applies the learning rate for gradients in NumPy arrays."""

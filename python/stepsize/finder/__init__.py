"""Finding the learning rate: the range test, races at constant rates, suggestions."""

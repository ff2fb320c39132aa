"""A recipe in which every part of a training matters; tests of the engine train it."""

"""How each family of models fills its layers' caches, read from its config."""

"""Families of models: how each is built from modules."""

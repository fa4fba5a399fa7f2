"""Kubernetes objects made from a plan."""

"""Kubernetes operator that judges, plans and runs vLLM deployments."""

__version__ = "0.1.0"

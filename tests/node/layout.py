"""Names and addresses of a node, the same inside its namespaces each time."""

from __future__ import annotations

from pathlib import Path

NODE_NAME = "vllm-node"
NODE_ADDRESS = "10.9.0.1"
"""The kubelet takes no loopback address; this one exists in the node's own network alone."""
BRIDGE = "vln0"
POD_NETWORK = "10.244.0.0/24"
POD_GATEWAY = "10.244.0.1/24"
SERVICE_NETWORK = "10.0.0.0/16"
API_SERVER_PORT = 6443
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "localhost/vllm-operator-test/pause:1"
ENGINE_IMAGE = "localhost/vllm-operator-test/engine:1"

READY = "ready"
"""What the node prints once pods can run."""

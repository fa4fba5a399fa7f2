"""The node agent: what NVML says of a node's GPUs, written as node labels where nothing else writes them."""

"""A real node beside the control plane: kubelet, containerd and runc in namespaces of their own."""

"""What the node's own processes are told: containerd, the network plugins, kubelet and kube-proxy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from tests.node.layout import (
    BRIDGE,
    CONTAINERD_SOCKET,
    NODE_ADDRESS,
    NODE_NAME,
    PAUSE_IMAGE,
    POD_NETWORK,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.build import NodeBinaries


def containerd(binaries: NodeBinaries, directory: Path) -> str:
    """Return containerd's configuration; scores for the kernel's OOM killer cannot be lowered without privileges."""
    return f"""\
version = 3
root = "{directory / "containerd"}"
state = "{CONTAINERD_SOCKET.parent}"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{binaries.programs}"]
conf_dir = "{directory / "cni"}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{binaries.runc}"
SystemdCgroup = false
"""


def network() -> str:
    """Return the network plugins' configuration: one bridge, addresses by the node, no masquerading."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_NETWORK}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni",
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})


def kubelet(directory: Path, *, client_ca: Path, cgroup: str) -> str:
    """Return the kubelet's configuration; its thresholds leave a shared machine's disk and memory alone."""
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(client_ca)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": False,
        "makeIPTablesUtilChains": False,
        # Without CAP_SYS_RESOURCE it cannot be lowered.
        "oomScoreAdj": 0,
        "resolvConf": str(directory / "resolv.conf"),
        "volumePluginDir": str(directory / "volume-plugins"),
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        # Tests restart containers: the usual 10 s, doubled each time, would be waited for in each.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        "logging": {"verbosity": 1},
    }
    return yaml.safe_dump(document)


def kube_proxy(kubeconfig: Path) -> str:
    """Return kube-proxy's configuration: nftables, and no machine-wide limits of connection tracking."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE_NAME,
        "bindAddress": NODE_ADDRESS,
        "clusterCIDR": POD_NETWORK,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": f"{NODE_ADDRESS}:10256",
        "metricsBindAddress": f"{NODE_ADDRESS}:10249",
    }
    return yaml.safe_dump(document)

"""Starts and stops the control plane: etcd, kube-apiserver, controller manager, scheduler and KWOK on loopback."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import yaml
from tests.controlplane import build
from tests.controlplane.pki import Authority, KeyPair, service_account_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from tests.controlplane.given import GivenCluster
    from tests.node.node import RealNode

HERE = Path(__file__).resolve().parent
READY_WITHIN_SECONDS = 60
KWOK_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "node/chaos/node-not-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
"""KWOK's own stages; `stages/` beside this file has ours, which replace its `pod-ready`."""

COLLECTORS = ("garbage-collector-controller", "namespace-controller")
AUDIT_LOG_MEGABYTES = 1_000_000
"""Never reached: at its 100 by default the API server begins a new file, and what has not been read yet is missed."""

_PR_SET_PDEATHSIG = 1


class PlaneError(Exception):
    """The control plane did not start; the message holds the end of the log that says why."""


@dataclass
class ControlPlane:
    """One running control plane; a context manager that leaves nothing behind.

    `with_nodes=False` starts etcd and the API server alone, for throughput figures and for faults.
    """

    with_nodes: bool = True
    priority_and_fairness: bool = True
    audit: bool = False
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="vllm-operator-plane-")))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)
    webhook_host: str = "127.0.0.1"
    """This machine's address as the API server sees it."""
    disposable: ClassVar[bool] = True
    """Whatever is put there goes with it."""

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        """Path of the administrator's kubeconfig."""
        return self.directory / "admin.kubeconfig"

    @property
    def kubectl(self) -> Path:
        """A kubectl of the server's version."""
        return build.binary_directory() / "kubectl"

    @property
    def audit_log(self) -> Path:
        """Path of the API server's audit log (with `audit=True`), one JSON event a line."""
        return self.directory / "audit.log"

    def start(self) -> None:
        """Start everything and return once it is ready.

        Raises:
            PlaneError: a component ended or did not become ready in time.
        """
        binaries = build.ensure_binaries()
        self._prepare()
        self._spawn("etcd", binaries, self._etcd_arguments())
        self._spawn("kube-apiserver", binaries, self._apiserver_arguments())
        self._wait("kube-apiserver", self.server + "/readyz")
        if not self.with_nodes:
            return
        self._spawn("kube-controller-manager", binaries, self._controller_manager_arguments())
        self._spawn("kube-scheduler", binaries, self._scheduler_arguments())
        kwok = [*kwok_arguments(self.kubeconfig), "--manage-all-nodes=true"]
        self._spawn("kwok", binaries, [*kwok, f"--server-address=127.0.0.1:{self.ports['kwok']}"])
        self._wait("kube-controller-manager", self.server + "/api/v1/namespaces/default/serviceaccounts/default")
        self._wait("kube-scheduler", f"https://127.0.0.1:{self.ports['scheduler']}/healthz", verify=False)

    def stop(self) -> None:
        """End every process and remove the directory; nothing in it is worth a graceful end."""
        for process in reversed(self.processes.values()):
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_collector(self) -> None:
        """Start the controllers that remove what has no owner or no namespace any more, where no others run.

        They notice a kind that is new to the cluster after half a minute; so its CRD had better be there already.
        """
        arguments = [*self._controller_manager_arguments(), f"--controllers={','.join(COLLECTORS)}"]
        self._spawn("kube-controller-manager", build.ensure_binaries(), arguments)

    def kill_apiserver(self) -> None:
        """End the API server at once, as a crash would; etcd and everybody else keep running."""
        process = self.processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def start_apiserver(self) -> None:
        """Start the API server again, on the same port and the same data, and return once it is ready."""
        self._spawn("kube-apiserver", build.ensure_binaries(), self._apiserver_arguments())
        self._wait("kube-apiserver", self.server + "/readyz")

    def pause_apiserver(self) -> None:
        """Hold the API server up: connections open, and nothing is answered."""
        self.processes["kube-apiserver"].send_signal(signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        """Let it go on."""
        self.processes["kube-apiserver"].send_signal(signal.SIGCONT)

    def etcd(self, call: str, body: Mapping[str, object]) -> dict[str, object]:
        """Ask etcd itself, past the API server, over its JSON gateway: `kv/compaction`, `kv/deleterange`."""
        url = f"http://127.0.0.1:{self.ports['etcd']}/v3/{call}"
        with urllib.request.urlopen(url, data=json.dumps(body).encode(), timeout=10) as response:
            answer: dict[str, object] = json.loads(response.read())
            return answer

    def kubeconfig_for(self, name: str, *, token: str, server: str | None = None) -> Path:
        """Write a kubeconfig that authenticates with a bearer token, such as a ServiceAccount's.

        `server` is the address, where the API server is not to be asked directly.
        """
        return write_kubeconfig(
            self.directory, name, server=server or self.server, ca=self.authority.certificate, user={"token": token}
        )

    def client_context(self) -> ssl.SSLContext:
        """Return how the administrator's requests are secured."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.admin.certificate, self.admin.key)
        return context

    def issue(self, name: str, *, hosts: Sequence[str]) -> KeyPair:
        """Sign a serving certificate with the plane's own authority."""
        return self.authority.issue(name, common_name=name, hosts=hosts)

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        names = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler", "kwok")
        self.ports: Mapping[str, int] = dict(zip(names, free_ports(len(names)), strict=True))
        self.server = f"https://127.0.0.1:{self.ports['apiserver']}"
        self.authority = Authority(self.directory / "pki")
        hosts = ("localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1")
        self.serving = self.authority.issue("apiserver", common_name="kube-apiserver", hosts=hosts)
        self.admin = self.authority.issue("admin", common_name="kubernetes-admin", groups=["system:masters"])
        self.service_account = service_account_keys(self.directory / "pki")
        self._kubeconfig(
            "admin", {"client-certificate": str(self.admin.certificate), "client-key": str(self.admin.key)}
        )

    def _kubeconfig(self, name: str, user: Mapping[str, str]) -> Path:
        return write_kubeconfig(self.directory, name, server=self.server, ca=self.authority.certificate, user=user)

    def _etcd_arguments(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "etcd-peer"))
        return [
            "--name=node0",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=node0={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_arguments(self) -> list[str]:
        arguments = [
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['apiserver']}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self.directory / 'pki'}",
            f"--tls-cert-file={self.serving.certificate}",
            f"--tls-private-key-file={self.serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.service_account.certificate}",
            f"--service-account-signing-key-file={self.service_account.key}",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--profiling=false",
        ]
        if not self.with_nodes:
            # Without a controller manager no namespace gets its default ServiceAccount.
            arguments.append("--disable-admission-plugins=ServiceAccount")
        if not self.priority_and_fairness:
            arguments += [
                "--enable-priority-and-fairness=false",
                "--max-requests-inflight=0",
                "--max-mutating-requests-inflight=0",
            ]
        if self.audit:
            policy = self.directory / "audit-policy.yaml"
            policy.write_text(
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
            )
            arguments += [
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
                f"--audit-log-maxsize={AUDIT_LOG_MEGABYTES}",
            ]
        return arguments

    def _controller_manager_arguments(self) -> list[str]:
        return [
            *self._client_arguments(),
            f"--root-ca-file={self.authority.certificate}",
            f"--service-account-private-key-file={self.service_account.key}",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['controller-manager']}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]

    def _scheduler_arguments(self) -> list[str]:
        return [
            *self._client_arguments(),
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['scheduler']}",
        ]

    def _client_arguments(self) -> list[str]:
        flags = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        return [f"--{flag}={self.kubeconfig}" for flag in flags]

    def _spawn(self, name: str, binaries: Path, arguments: Sequence[str]) -> None:
        with self._log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(binaries / name), *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C reaches us alone, and we end it in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _wait(self, name: str, url: str, *, verify: bool = True) -> None:
        context = self.client_context()
        if not verify:
            # The scheduler serves a certificate that it made itself.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while True:
            self._check_alive()
            try:
                with urllib.request.urlopen(url, context=context, timeout=2):
                    return
            except (OSError, urllib.error.URLError) as error:
                if time.monotonic() > deadline:
                    raise PlaneError(f"{name} is not ready after {READY_WITHIN_SECONDS} s: {error}") from error
            time.sleep(0.05)

    def _check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                tail = self._log(name).read_text(errors="replace")[-2000:]
                raise PlaneError(f"{name} ended with {process.returncode}:\n{tail}")


def kwok_arguments(kubeconfig: Path) -> list[str]:
    """Return KWOK's arguments for a cluster; which nodes it keeps is the caller's to add."""
    folder = build.stage_directory()
    stages = [*(folder / name for name in KWOK_STAGES), *sorted((HERE / "stages").glob("*.yaml"))]
    return [
        f"--kubeconfig={kubeconfig}",
        "--node-ip=127.0.0.1",
        "--cidr=10.128.0.0/14",
        "--node-lease-duration-seconds=40",
        *(f"--config={stage}" for stage in stages),
    ]


def write_kubeconfig(directory: Path, name: str, *, server: str, ca: Path, user: Mapping[str, str]) -> Path:
    """Write a kubeconfig for one user and return its path."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": "plane", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": name, "user": dict(user)}],
        "contexts": [{"name": name, "context": {"cluster": "plane", "user": name}}],
    }
    path = directory / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, so that a kill -9 leaves nothing behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


def still_free(port: int) -> int:
    """Return the port if nobody listens or is connected there, else another one."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            return free_ports(1)[0]
    return port


def service_account_token(plane: ControlPlane | GivenCluster | RealNode, namespace: str, name: str) -> str:
    """Return a token of a ServiceAccount, as the kubelet would project it."""
    command = [str(plane.kubectl), f"--kubeconfig={plane.kubeconfig}", "create", "token", name]
    done = subprocess.run(
        [*command, f"--namespace={namespace}", "--duration=8h", "--output=json"],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": os.environ.get("HOME", "/")},
    )
    token: str = json.loads(done.stdout)["status"]["token"]
    return token

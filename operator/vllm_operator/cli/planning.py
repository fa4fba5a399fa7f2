"""What `plan` and `render` have in common: options, inputs, and one judged plan for each VLLMDeployment of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.cli.nodes import UnreadableInput, add_source, load_objects
from vllm_operator.cli.prices import cost_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vllm_operator.api.v1alpha1 import VLLMDeployment
    from vllm_operator.cli.documents import Documents
    from vllm_operator.cli.prices import GpuPrice
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.planning.calibration import Observations
    from vllm_operator.planning.defaults import Capabilities
    from vllm_operator.planning.plan import Alternative, Plan

EXIT_FITS = 0
EXIT_BAD_INPUT = 2
EXIT_DOES_NOT_FIT = 3
EXIT_UNKNOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One deployment with its plan and the objects that it becomes."""

    deployment: VLLMDeployment
    plan: Plan
    alternatives: tuple[Alternative, ...]
    objects: tuple[dict[str, Any], ...]
    facts_missing: str | None
    """Why the model's facts could not be had; None when they could."""
    cost_per_million_tokens: tuple[float, float] | None = None
    """Of generated tokens at full load, cheap end first; None without a price or without an honest speed."""


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to judge and against what."""
    parser.add_argument(
        "-f", "--filename", metavar="CR.yaml", required=True, help="VLLMDeployments, with their ConfigMaps; - is stdin"
    )
    add_source(parser)
    parser.add_argument(
        "--facts", metavar="DIR", help="directory with the model's config.json (and its weights or their index)"
    )
    parser.add_argument(
        "--observations",
        metavar="FILE",
        help="what vLLM was observed to report: `vllm-operator observations -o json`, or the operator's ConfigMap",
    )
    parser.add_argument(
        "--multi-node",
        action="store_true",
        help="plan as if LeaderWorkerSet were installed, which runs one replica on several nodes; otherwise the "
        "cluster says it, or its CustomResourceDefinition among the objects given",
    )


def judge(args: argparse.Namespace) -> tuple[Judged, ...]:
    """Judge every VLLMDeployment of the file.

    Raises:
        UnreadableInput: a file, a document or the cluster cannot be read.
    """
    from vllm_operator.cli.documents import read_deployments

    documents = read_deployments(args.filename)
    inventory, capabilities = _cluster(args, documents)
    observations = _observations(args.observations)
    prices = args.gpu_price_per_hour if "gpu_price_per_hour" in args else ()
    return tuple(
        _judge(deployment, documents, inventory, capabilities, observations, args.facts, prices)
        for deployment in documents.deployments
    )


def _cluster(args: argparse.Namespace, documents: Documents) -> tuple[Inventory, Capabilities]:
    """What there is to run on, and what the cluster can do besides."""
    from vllm_operator.cli.capabilities import capabilities_in, capabilities_of_cluster
    from vllm_operator.cluster.documents import read_inventory
    from vllm_operator.planning.defaults import Capabilities

    objects = load_objects(nodes_file=args.nodes, cluster=args.cluster, must_have_nodes=True)
    if objects is None and not any(obj.get("kind") == "Node" for obj in documents.others):
        raise UnreadableInput("say where the nodes are: --nodes FILE or --cluster")
    inventory = read_inventory(documents.others if objects is None else objects)
    if args.multi_node:
        return inventory, Capabilities(leader_worker_sets=True)
    if args.cluster:
        return inventory, capabilities_of_cluster()
    return inventory, capabilities_in([*(objects or ()), *documents.others])


def _observations(path: str | None) -> Observations | None:
    if path is None:
        return None
    from vllm_operator.cli.observations import load_observations

    return load_observations(path)


def _judge(
    deployment: VLLMDeployment,
    documents: Documents,
    inventory: Inventory,
    capabilities: Capabilities,
    observations: Observations | None,
    facts_directory: str | None,
    prices: Sequence[GpuPrice],
) -> Judged:
    from vllm_operator.cli.model_facts import facts_for
    from vllm_operator.planning.decide import compare, plan

    facts, missing = facts_for(deployment, directory=facts_directory, config_maps=documents.config_maps)
    metadata = deployment.metadata
    credited = inventory.crediting(f"{metadata.namespace}/{metadata.name}")
    planned = plan(deployment.spec, facts, credited, capabilities=capabilities)
    shown = planned
    if observations is not None:
        from vllm_operator import __version__
        from vllm_operator.planning.calibration import calibrated
        from vllm_operator.planning.observation_keys import key_of

        shown = calibrated(planned, key_of(planned, deployment.spec), observations, predicted_by=__version__)
    return Judged(
        deployment=deployment,
        plan=shown,
        alternatives=compare(deployment.spec, facts, credited, capabilities=capabilities),
        objects=_objects(deployment, planned),
        facts_missing=missing,
        cost_per_million_tokens=cost_of(planned, prices),
    )


def _objects(deployment: VLLMDeployment, planned: Plan) -> tuple[dict[str, Any], ...]:
    """What would be applied: nothing for a plan that does not fit, unless the admission mode is Off."""
    from vllm_operator.api.v1alpha1 import Admission
    from vllm_operator.planning.plan import Verdict

    withheld = planned.verdict is Verdict.DOES_NOT_FIT and deployment.spec.policy.admission is not Admission.OFF
    if withheld or not planned.renderable:
        return ()
    from vllm_operator.render.objects import render, workload_of
    from vllm_operator.render.optional import kinds_without_a_cluster, render_optional

    namespace, name = deployment.metadata.namespace, deployment.metadata.name or "model"
    objects = render(planned, deployment, namespace=namespace, name=name)
    # What the cluster serves is not known here: what is asked for outright is shown.
    served = kinds_without_a_cluster(deployment.spec)
    extra = render_optional(planned, deployment, workload=workload_of(objects), served=served)
    return (*objects, *extra.objects)


def exit_code(judged: tuple[Judged, ...]) -> int:
    """The code of the worst verdict: does not fit, then unknown, then fits (now, once freed or once scaled)."""
    from vllm_operator.planning.plan import Verdict

    verdicts = {entry.plan.verdict for entry in judged}
    if Verdict.DOES_NOT_FIT in verdicts:
        return EXIT_DOES_NOT_FIT
    return EXIT_UNKNOWN if Verdict.UNKNOWN in verdicts else EXIT_FITS

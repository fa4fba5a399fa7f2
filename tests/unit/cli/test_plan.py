"""`plan` and `render`: exit codes, what is printed, and what is said of bad input."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.unit.planning.fleets import LLAMA_8B, LLAMA_405B, node, pod

from vllm_operator.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def deployment(uri: str = LLAMA_8B, name: str = "llama", **sections: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {"name": name, "namespace": "models"},
        "spec": {"model": {"uri": uri}, "workload": {"contextLength": 8192}, **sections},
    }


@pytest.fixture
def nodes(tmp_path: Path) -> str:
    path = tmp_path / "nodes.yaml"
    path.write_text(yaml.safe_dump_all([node("H100", "h100-0", 8), node("L4", "l4-0", 1), pod("l4-0", 1)]))
    return str(path)


def written(tmp_path: Path, *documents: object) -> str:
    path = tmp_path / "cr.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


class TestExitCodes:
    def test_0_when_it_fits(self, tmp_path: Path, nodes: str) -> None:
        assert main(["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes]) == 0

    def test_3_when_it_does_not_fit(self, tmp_path: Path, nodes: str) -> None:
        assert main(["plan", "-f", written(tmp_path, deployment(LLAMA_405B)), "--nodes", nodes]) == 3

    def test_4_when_the_gpus_memory_is_unknown(self, tmp_path: Path) -> None:
        documents = [deployment(), node(None, "plain", 1)]
        assert main(["plan", "-f", written(tmp_path, *documents)]) == 4

    def test_the_worst_of_several_deployments_counts(self, tmp_path: Path, nodes: str) -> None:
        both = written(tmp_path, deployment(), deployment(LLAMA_405B, "giant"))
        assert main(["plan", "-f", both, "--nodes", nodes]) == 3

    def test_2_without_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 2
        assert "label-node" in capsys.readouterr().out

    def test_0_for_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.startswith("vllm-operator ")


PAIR = (node("H100", "h100-0", 8), node("H100", "h100-1", 8))
SETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "leaderworkersets.leaderworkerset.x-k8s.io"},
}


class TestSeveralNodes:
    def test_a_model_that_exceeds_a_node_needs_leaderworkersets(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, deployment(LLAMA_405B), *PAIR)
        assert main(["plan", "-f", path]) == 3
        assert "install LeaderWorkerSet" in " ".join(capsys.readouterr().out.split())

    def test_the_user_may_say_that_they_are_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(tmp_path, deployment(LLAMA_405B), *PAIR)
        assert main(["plan", "-f", path, "--multi-node", "--explain"]) == 0
        shown = capsys.readouterr().out
        assert "Fits on 2 nodes with 8 × NVIDIA-H100-80GB-HBM3 each" in shown
        assert "--nnodes 2" in shown
        assert "LeaderWorkerSet llama" in shown

    @pytest.mark.parametrize("beside", ["the-deployment", "the-nodes"])
    def test_their_definition_among_the_objects_says_it_too(self, beside: str, tmp_path: Path) -> None:
        nodes = tmp_path / "nodes.yaml"
        theirs = [SETS] if beside == "the-nodes" else []
        nodes.write_text(yaml.safe_dump_all([*PAIR, *theirs]))
        ours = [SETS] if beside == "the-deployment" else []
        path = written(tmp_path, deployment(LLAMA_405B), *ours)
        assert main(["plan", "-f", path, "--nodes", str(nodes)]) == 0

    def test_another_definition_says_nothing(self, tmp_path: Path) -> None:
        other = {**SETS, "metadata": {"name": "jobsets.jobset.x-k8s.io"}}
        assert main(["plan", "-f", written(tmp_path, deployment(LLAMA_405B), *PAIR, other)]) == 3

    @pytest.mark.parametrize("output", ["json", "yaml"])
    def test_the_document_counts_nodes(self, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(tmp_path, deployment(LLAMA_405B), *PAIR)
        assert main(["plan", "-f", path, "--multi-node", "-o", output]) == 0
        plan = yaml.safe_load(capsys.readouterr().out)["plan"]
        assert (plan["gpusPerReplica"], plan["nodesPerReplica"], plan["pipelineParallelSize"]) == (16, 2, 2)

    def test_what_is_rendered_is_a_leaderworkerset(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(tmp_path, deployment(LLAMA_405B), *PAIR)
        assert main(["render", "-f", path, "--multi-node"]) == 0
        kinds = [obj["kind"] for obj in yaml.safe_load_all(capsys.readouterr().out)]
        assert "LeaderWorkerSet" in kinds
        assert "Deployment" not in kinds


class TestBadInput:
    def refused(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        assert main([*arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    def test_a_missing_file_is_named(self, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no-such.yaml: No such file" in self.refused(capsys, "plan", "-f", "no-such.yaml", "--nodes", nodes)

    def test_malformed_yaml_is_placed(self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "cr.yaml"
        path.write_text("spec: [unclosed\n")
        assert "line 2" in self.refused(capsys, "plan", "-f", str(path), "--nodes", nodes)

    @pytest.mark.parametrize(
        ("section", "words"),
        [
            pytest.param({"replicas": "many"}, "spec.replicas: ", id="wrong-type"),
            pytest.param({"replicas": "2"}, "spec.replicas: must be a whole number, without quotes", id="quoted"),
            pytest.param({"replicas": -1}, "spec.replicas: ", id="negative"),
            pytest.param({"wrokload": {}}, "spec.wrokload: unknown field", id="unknown-field"),
            pytest.param({"engine": {"extraArgs": ["--max-model-len=1"]}}, "spec.workload.contextLength", id="managed"),
        ],
    )
    def test_each_wrong_field_is_named(
        self, section: dict[str, Any], words: str, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, deployment(**section))
        error = self.refused(capsys, "plan", "-f", path, "--nodes", nodes)
        assert "document 1 is not a valid VLLMDeployment" in error
        assert words in error

    def test_standard_input_is_named_as_such(
        self, nodes: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("kind: Pod\n"))
        assert "standard input holds no VLLMDeployment" in self.refused(capsys, "plan", "-f", "-", "--nodes", nodes)

    def test_a_nameless_one_is_refused_as_by_the_api_server(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, {**deployment(), "metadata": {"namespace": "models"}})
        assert "metadata.name: required" in self.refused(capsys, "plan", "-f", path, "--nodes", nodes)

    def test_an_operator_without_a_cluster_says_so(self, tmp_path: Path) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "vllm_operator", "run"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "set KUBECONFIG" in said
        assert "Traceback" not in said

    def test_a_wrong_field_in_a_list_is_placed(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        items = [deployment(), deployment(wrokload={})]
        path = written(tmp_path, {"apiVersion": "v1", "kind": "List", "items": items})
        error = self.refused(capsys, "plan", "-f", path, "--nodes", nodes)
        assert "document 1, item 2 of the List is not a valid VLLMDeployment" in error
        assert "spec.wrokload: unknown field" in error

    def test_an_empty_list_is_named(self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(tmp_path, {"apiVersion": "v1", "kind": "List", "items": []})
        error = self.refused(capsys, "plan", "-f", path, "--nodes", nodes)
        assert "holds no VLLMDeployment" in error
        assert "an empty List" in error

    @pytest.mark.parametrize("command", ["plan", "render"])
    @pytest.mark.parametrize(
        ("document", "words"),
        [
            pytest.param({"kind": "PodList", "items": [{"metadata": {"name": "x"}}]}, "only Pod", id="pods alone"),
            pytest.param({"kind": "List", "items": []}, "it is empty", id="nothing"),
            pytest.param(deployment(), "only VLLMDeployment", id="the files exchanged"),
        ],
    )
    def test_a_file_without_nodes_is_no_cluster(
        self,
        command: str,
        document: dict[str, Any],
        words: str,
        tmp_path: Path,
        nodes: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = written(tmp_path, deployment())
        others = tmp_path / "others.yaml"
        others.write_text(yaml.safe_dump(document))
        error = self.refused(capsys, command, "-f", path, "--nodes", str(others))
        assert f"{others} holds no Node, {words}" in error
        assert "kubectl get nodes,pods" in error

    def test_a_file_of_other_things_says_what_it_holds(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}})
        assert "holds no VLLMDeployment" in self.refused(capsys, "plan", "-f", path, "--nodes", nodes)

    def test_nodes_must_come_from_somewhere(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--nodes FILE or --cluster" in self.refused(capsys, "plan", "-f", written(tmp_path, deployment()))

    def test_a_directory_without_a_model_is_named(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, deployment())
        error = self.refused(capsys, "plan", "-f", path, "--nodes", nodes, "--facts", str(tmp_path / "none"))
        assert "no such directory" in error

    def test_a_config_map_that_is_not_in_the_file_is_named(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = deployment(model={"uri": "pvc://models/x", "configRef": {"name": "facts"}})
        error = self.refused(capsys, "plan", "-f", written(tmp_path, document), "--nodes", nodes)
        assert "ConfigMap 'facts'" in error


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


class TestFacts:
    def test_come_from_a_config_map_beside_the_deployment(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = deployment(
            model={"uri": "pvc://models/mine", "configRef": {"name": "facts"}}, workload={"contextLength": 2048}
        )
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "facts", "namespace": "models"},
            "data": {"config.json": json.dumps(CONFIG)},
        }
        path = written(tmp_path, document, config_map)
        assert main(["plan", "-f", path, "--nodes", nodes, "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["plan"]["model"] == "/models/mine"

    @pytest.mark.parametrize("folder", ["", "org/mine", "org__mine"])
    def test_come_from_a_directory_of_one_model_or_of_several(self, folder: str, tmp_path: Path, nodes: str) -> None:
        directory = tmp_path / "facts" / folder
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(json.dumps(CONFIG))
        path = written(tmp_path, deployment("org/mine", workload={"contextLength": 4096}))
        assert main(["plan", "-f", path, "--nodes", nodes, "--facts", str(tmp_path / "facts")]) == 0

    def test_what_yaml_takes_for_a_date_is_text_as_for_kubectl(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        document = deployment(model={"uri": "org/mine", "revision": "THE-DAY"}, workload={"contextLength": 2048})
        path = tmp_path / "cr.yaml"
        path.write_text(yaml.safe_dump(document).replace("THE-DAY", "2026-01-02"))
        assert main(["render", "-f", str(path), "--nodes", nodes, "--facts", str(tmp_path)]) == 0
        deployed = next(one for one in yaml.safe_load_all(capsys.readouterr().out) if one["kind"] == "Deployment")
        (engine,) = deployed["spec"]["template"]["spec"]["containers"]
        assert engine["args"][engine["args"].index("--revision") + 1] == "2026-01-02"

    def test_of_another_revision_are_not_those_of_the_catalogue(self, tmp_path: Path, nodes: str) -> None:
        path = written(tmp_path, deployment(model={"uri": LLAMA_8B, "revision": "v9"}))
        environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "vllm_operator", "plan", "-f", path, "--nodes", nodes]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 4
        assert "--revision v9" in done.stdout
        assert "the Hub could not be reached" in done.stdout.replace("\n", " ")


class TestOutput:
    def test_the_table_answers_first_and_shows_the_sum(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"models/llama  ·  {LLAMA_8B}"
        assert lines[1] == "✔ Fits  ·  OOM risk Low"
        assert [line.split()[0] for line in lines if " GiB " in line and "%" in line][:3] == [
            "weights",
            "KV",
            "overhead",
        ]

    def test_no_flag_is_parted_from_its_value(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes])
        shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
        assert len(shown) >= 2

    def test_explain_gives_each_flag_its_reason_and_each_class_its_row(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes, "--explain"])
        out = capsys.readouterr().out
        assert "--max-model-len 8192" in out
        assert "spec.workload.contextLength" in out
        assert "NVIDIA-L4" in out

    def test_both_trade_offs_are_shown_for_each_class(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes, "-o", "json"])
        classes = {row["gpuProduct"]: row for row in json.loads(capsys.readouterr().out)["alternatives"]}
        assert set(classes) == {"NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"}
        for row in classes.values():
            at_8k = next(entry for entry in row["byContext"] if entry["contextLength"] == 8192)
            assert at_8k["maxConcurrency"] == row["maxConcurrency"]
            assert row["byConcurrency"][0] == {"concurrency": 1, "maxContext": row["maxContext"]}
        main(["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes])
        text = capsys.readouterr().out
        for title in ("Sequences that hold at once, by context length", "Longest context, by sequences at once"):
            table = text.split(title)[1].split("\n\n")[0]
            assert {name for name in classes if name in table} == set(classes)

    def test_a_price_gives_the_cost_of_a_million_tokens(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes, "-o", "json"]
        main([*asked, "--gpu-price-per-hour", "*L4*=0.8", "--gpu-price-per-hour", "3.6"])
        priced = json.loads(capsys.readouterr().out)
        low, high = priced["performance"]["tokensPerSecond"]
        assert priced["costPerMillionTokens"] == pytest.approx([1000 / high, 1000 / low])
        main(asked)
        assert json.loads(capsys.readouterr().out)["costPerMillionTokens"] is None

    def test_no_cost_is_claimed_for_a_class_without_a_price(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes]
        main([*asked, "--gpu-price-per-hour", "*L4*=0.8"])
        assert "a million generated tokens" not in capsys.readouterr().out
        main([*asked, "--gpu-price-per-hour", "2.5"])
        assert "a million generated tokens" in capsys.readouterr().out

    @pytest.mark.parametrize("price", ["cheap", "-1", "nan", "=2", "H100=", "inf"])
    def test_what_is_no_price_is_refused(
        self, price: str, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["plan", "-f", written(tmp_path, deployment()), "--nodes", nodes]
        assert main([*asked, f"--gpu-price-per-hour={price}"]) == 2
        assert "is no price" in capsys.readouterr().err

    def test_json_and_yaml_say_the_same(self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = written(tmp_path, deployment())
        main(["plan", "-f", path, "--nodes", nodes, "-o", "json"])
        as_json = json.loads(capsys.readouterr().out)
        main(["plan", "-f", path, "--nodes", nodes, "-o", "yaml"])
        assert yaml.safe_load(capsys.readouterr().out) == as_json
        assert as_json["verdict"] == "Fits"
        assert as_json["feasibility"]["oomRisk"] == "Low"
        assert as_json["plan"]["args"][0] == LLAMA_8B
        assert {obj["kind"] for obj in as_json["objects"]} >= {"Deployment", "Service"}

    def test_several_deployments_are_a_list(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["plan", "-f", written(tmp_path, deployment(), deployment(name="b")), "--nodes", nodes, "-o", "json"])
        assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == ["llama", "b"]

    def test_what_does_not_fit_has_patches_and_no_objects(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["plan", "-f", written(tmp_path, deployment(LLAMA_405B)), "--nodes", nodes, "-o", "json"])
        found = json.loads(capsys.readouterr().out)
        assert found["objects"] == []
        assert found["suggestions"][0]["patch"]["spec"]

    def test_html_is_one_well_formed_page_that_escapes_what_users_wrote(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = deployment(model={"uri": LLAMA_8B, "servedName": "<script>alert(1)</script>"})
        main(["plan", "-f", written(tmp_path, document), "--nodes", nodes, "-o", "html"])
        page = capsys.readouterr().out
        assert "<script>" not in page
        checker = TagBalance()
        checker.feed(page)
        assert checker.open_tags == []


class TagBalance(HTMLParser):
    """Tracks which tags are still open."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag


class TestRender:
    def test_prints_only_the_objects(self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["render", "-f", written(tmp_path, deployment()), "--nodes", nodes]) == 0
        objects = list(yaml.safe_load_all(capsys.readouterr().out))
        assert {obj["kind"] for obj in objects} >= {"Deployment", "Service"}
        assert all(obj["metadata"]["namespace"] == "models" for obj in objects)

    def test_says_on_standard_error_why_there_is_nothing(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["render", "-f", written(tmp_path, deployment(LLAMA_405B)), "--nodes", nodes]) == 3
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("llama: spec.model: needs ")

    def test_renders_anyway_when_admission_is_off(
        self, tmp_path: Path, nodes: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = deployment(LLAMA_405B, policy={"admission": "Off"})
        assert main(["render", "-f", written(tmp_path, document), "--nodes", nodes]) == 3
        assert "Deployment" in capsys.readouterr().out


def test_crd_prints_the_definition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["kind"] == "CustomResourceDefinition"


@pytest.mark.parametrize("command", ["run", "plan", "render", "predict", "nodes", "label-node", "crd"])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: vllm-operator {command}")


def test_planning_offline_loads_no_cluster_client(tmp_path: Path, nodes: str) -> None:
    """What is not imported costs no start-up time: kopf, kubernetes and aiohttp take seconds together."""
    script = (
        "import sys; from vllm_operator.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'kopf', 'kubernetes', 'aiohttp', 'huggingface_hub'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "plan", "-f", written(tmp_path, deployment()), "--nodes", nodes],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": "operator"},
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")

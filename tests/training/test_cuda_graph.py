"""Without a GPU nothing can be captured: the passes run as they are, and it is said once.

benchmarks/gpu.py compares losses with and without a graph on a device.
"""

import pytest
import torch

from sfsc_training.cuda_graph import StepGraphs


@pytest.mark.skipif(torch.cuda.is_available(), reason="here they can be captured")
def test_passes_that_cannot_be_captured_run_as_they_are(caplog):
    graphs, calls = StepGraphs[torch.Tensor]([]), []

    def passes(values):
        calls.append(len(values))
        return values.sum()

    for count in (3, 3, 3, 3, 3, 2):
        assert graphs.run(passes, (torch.ones(count),), "key") == count
    assert calls == [3, 3, 3, 3, 3, 2]
    assert [record.message[:45] for record in caplog.records] == ["the step runs without a CUDA graph, because i"]

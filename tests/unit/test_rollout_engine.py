# SPDX-License-Identifier: Apache-2.0
"""What a rollout reads of a request is what vLLM's own default gives; vLLM's output processor does the work."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("vllm", reason="vLLM is not installed")
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.outputs import LogprobsLists

from swarr_verl.rollout_engine import RolloutEngine

ID = "request"


class Engine:
    """`AsyncLLM.generate` without a core: the steps of `pieces` (new tokens) come from nowhere."""

    def __init__(self, pieces: list[list[int]], interval: int, aborted: bool, lag: int) -> None:
        self.pieces, self.interval, self.aborted, self.lag = pieces, interval, aborted, lag
        self.tokenizer = tiny.tokenizer()

    async def generate(self, *, sampling_params: SamplingParams, request_id: str):
        processor = OutputProcessor(self.tokenizer, log_stats=False, stream_interval=self.interval)
        queue = RequestOutputCollector(sampling_params.output_kind, request_id)
        fields = {"prompt_token_ids": [1, 2], "sampling_params": sampling_params, "arrival_time": 0.0}
        rest = dict.fromkeys(("mm_features", "pooling_params", "lora_request", "cache_salt", "data_parallel_rank"))
        request = EngineCoreRequest(request_id=request_id, external_req_id=request_id, **fields, **rest)
        processor.add_request(request, None, None, 0, queue)
        for step, tokens in enumerate(self.pieces):
            last = step == len(self.pieces) - 1 and not self.aborted
            processor.process_outputs([core_output(tokens, sampling_params, FinishReason.LENGTH if last else None)])
            if step % self.lag == 0 and (output := queue.get_nowait()):
                yield output
        if self.aborted:
            processor.abort_requests([request_id], internal=True)
        if output := queue.get_nowait():
            yield output


def core_output(tokens: list[int], params: SamplingParams, reason: FinishReason | None) -> EngineCoreOutput:
    found = None
    if params.logprobs is not None:
        ids = np.array(tokens)[:, None]
        found = LogprobsLists(ids, -ids.astype(np.float32) / 7, np.zeros(len(tokens), dtype=np.int64))
    return EngineCoreOutput(request_id=ID, new_token_ids=list(tokens), new_logprobs=found, finish_reason=reason)


def outputs(engine, **params) -> list:
    async def collect():
        return [
            _copy(output) async for output in engine.generate(sampling_params=SamplingParams(**params), request_id=ID)
        ]

    return asyncio.run(collect())


def _copy(output) -> SimpleNamespace:
    """What verl's server reads."""
    (only,) = output.outputs
    logprobs = (
        None
        if only.logprobs is None
        else [at[token].logprob for at, token in zip(only.logprobs, only.token_ids, strict=True)]
    )
    return SimpleNamespace(
        tokens=list(only.token_ids), logprobs=logprobs, reason=only.finish_reason, done=output.finished
    )


@given(
    pieces=st.lists(st.lists(st.integers(3, 200), min_size=1, max_size=3), min_size=1, max_size=40),
    interval=st.integers(1, 50),
    aborted=st.booleans(),
    lag=st.integers(1, 5),
    logprobs=st.sampled_from([None, 0]),
)
def test_the_last_output_is_what_vllm_gives_by_default(pieces, interval, aborted, lag, logprobs):
    engine = Engine(pieces, interval, aborted, lag)
    wanted = outputs(engine, logprobs=logprobs)
    found = outputs(RolloutEngine(engine), logprobs=logprobs)
    assert found[-1] == wanted[-1] and found[-1].done
    assert found[-1].tokens == [token for piece in pieces for token in piece]
    assert found[0] == wanted[0]  # verl's gate counts by it


def test_reports_are_as_rare_as_the_interval_says():
    engine = Engine([[token] for token in range(3, 103)], 1024, False, 1)
    assert len(outputs(engine)) == 100  # vLLM heeds the interval for deltas only
    assert [len(output.tokens) for output in outputs(RolloutEngine(engine))] == [1, 100]


def test_a_stop_string_still_stops():
    engine = Engine([[token] for token in engine_tokens("one two three four")], 8, False, 1)
    assert len(outputs(RolloutEngine(engine), stop=[" three"])[-1].tokens) < len(engine.pieces)


def engine_tokens(text: str) -> list[int]:
    return tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_everything_else_is_the_engines():
    assert RolloutEngine(SimpleNamespace(sleep=3)).sleep == 3

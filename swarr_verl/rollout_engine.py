# SPDX-License-Identifier: Apache-2.0
"""vLLM's engine as a rollout needs it: two outputs a request, its first token and all of it.

verl's server (0.9.1, `vLLMHttpServer.generate`) takes vLLM's default, an output a token that holds all text and tokens
so far, reads the last and drops the others. One process makes them for all requests of an engine: at 1024 of them it
takes 2.6 times the CPU time of what is here (examples/rollout).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from vllm import RequestOutput, SamplingParams
from vllm.sampling_params import RequestOutputKind


class RolloutEngine:
    """An `AsyncLLM` that generates for a rollout; everything else is the engine's own.

    The engine's `stream_interval` (vLLM's; tokens, heeded for deltas only) says how rarely it reports; `+swarr=rl` sets
    it. The report of the first token stays, for verl's gate counts a request as admitted by it.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, *, sampling_params: SamplingParams, **kwargs: Any) -> AsyncIterator[RequestOutput]:
        """Yield outputs that hold all tokens so far, as `AsyncLLM.generate` does, with no text if no stop string asks.

        Args:
            sampling_params: with n = 1; changed in place.
        """
        sampling_params.output_kind = RequestOutputKind.DELTA
        sampling_params.detokenize = bool(sampling_params.stop)
        tokens: list[int] = []
        logprobs: list[Any] = []
        first: RequestOutput | None = None
        async for output in self._engine.generate(sampling_params=sampling_params, **kwargs):
            first = first or output
            for delta in output.outputs[:1]:
                new = len(delta.token_ids)
                tokens += delta.token_ids
                if delta.logprobs is not None:  # all of them where there is no new token: vLLM slices by -0
                    logprobs += delta.logprobs[len(delta.logprobs) - new :]
                    delta.logprobs = logprobs
                delta.token_ids = tokens
            output.prompt_logprobs = first.prompt_logprobs  # vLLM sends them once
            yield output

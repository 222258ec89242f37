# SPDX-License-Identifier: Apache-2.0
"""Loaded into every verl process by VERL_USE_EXTERNAL_MODULES=probe: verl's own vLLM server says what it applies.

It prints, for each layer, the window of the kernel and of the KV cache.
"""

import json

from verl.workers.rollout.replica import RolloutReplicaRegistry


def _load_replica() -> type:
    import ray
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

    class Server(vLLMHttpServer):
        def _get_worker_extension_cls(self):
            return "swarr_verl.rollout_worker.SwarrWorkerExtension"

        async def run_server(self, args):
            await super().run_server(args)
            print("[probe] verl's vLLM:", json.dumps(await self.engine.collective_rpc("swarr_windows")), flush=True)

    class Replica(vLLMReplica):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(Server)

    return Replica


RolloutReplicaRegistry.register("vllm", _load_replica)

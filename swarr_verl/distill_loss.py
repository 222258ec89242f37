# SPDX-License-Identifier: Apache-2.0
"""A loss for verl's on-policy distillation: the divergence that a token leads to, not its own alone.

verl's `k1` gives each sampled token its own log p_student - log p_teacher for a loss. A student under a window differs
from its teacher where it cannot see what the teacher sees; what made it look there, a way of writing that the teacher
likes as well as another, came many tokens before, and is never blamed. Summed from each token to the end of the
response, the same log-ratios are the exact gradient of KL(student || teacher) over whole responses, as in MiniLLM
(arXiv 2306.08543); each alone is a partial one (arXiv 2506.09477).

That divergence is small where a response ends before it began: a student far from its teacher learns to be silent, so
convert it by SFT first. Their mean in place of the sum lets it run on instead, discounted or not (examples/mismatch).
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.trainer.distillation.losses import DistillationLossSettings, register_distillation_loss
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig, DistillationConfig
from verl.workers.utils.padding import no_padding_2_padding

TO_GO = "swarr_k1_to_go"  # distillation.distillation_loss.loss_mode


def to_go(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum of each token's loss and those after it, less the mean of what the other responses have at that place.

    That mean changes no expectation, only the noise, and there is none where a response has no other beside it: let
    micro-batches hold several.

    Args:
        losses: [responses, tokens], float.
        mask: [responses, tokens], bool; which tokens count.

    Returns:
        [responses, tokens], 0 where the mask is.

    >>> losses, mask = torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, 9.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    >>> to_go(losses, mask).tolist()
    [[4.0, 6.0, 4.0], [-4.0, -6.0, 0.0]]
    """
    kept = torch.where(mask, losses, 0)
    ahead = torch.where(mask, kept.flip(1).cumsum(1).flip(1), 0)
    others = (ahead.sum(0) - ahead) / (mask.sum(0) - 1).clamp(min=1)
    return torch.where(mask, ahead - others, 0)


@register_distillation_loss(DistillationLossSettings(names=[TO_GO], use_estimator=True))
def k1_to_go(
    config: ActorConfig, distillation_config: DistillationConfig, model_output: dict[str, Any], data: TensorDict
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return the losses, [responses, tokens], and the divergence of a token, nats, as a metric.

    Args as verl 0.9.1 calls it (trainer/distillation/losses.py:245).
    """
    student = no_padding_2_padding(model_output["log_probs"], data)
    teacher = no_padding_2_padding(data["teacher_logprobs"], data).squeeze(-1)
    mask = data["response_mask"]
    mask = (mask.to_padded_tensor(0) if mask.is_nested else mask).bool()
    ratios = student - teacher
    return to_go(ratios, mask), {"distillation/kl": Metric(AggregationType.MEAN, ratios[mask].mean())}

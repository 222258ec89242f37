# SPDX-License-Identifier: Apache-2.0
"""A loss for verl's on-policy distillation: the divergence that a token leads to, not its own alone.

verl's `k1` gives each sampled token its own log p_student - log p_teacher for a loss. A student under a window differs
from its teacher where it cannot see what the teacher sees; what made it look there, a way of writing that the teacher
likes as well as another, came many tokens before, and is never blamed. Summed from each token to the end of the
response, the same log-ratios are the exact gradient of KL(student || teacher) over whole responses, as in MiniLLM
(arXiv 2306.08543); each alone is a partial one (arXiv 2506.09477).

That divergence is small where a response ends before it began, so that a student which is far from its teacher learns
to be silent (examples/mismatch: in 6 steps). Their mean, MiniLLM's length normalisation, is small where a response runs
on and on. A discounted mean looks ahead, too, and keeps the length of a student that SFT has converted; another runs on by
it as well (there, in 6 steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from verl.trainer.distillation.losses import DistillationLossSettings, register_distillation_loss
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig, DistillationConfig, DistillationLossConfig
from verl.workers.utils.padding import no_padding_2_padding

TO_GO, MEAN = "swarr_k1_to_go", "swarr_k1_mean_to_go"  # distillation.distillation_loss.loss_mode


@dataclass
class LossConfig(DistillationLossConfig):
    """verl's, and `gamma`, the discount of the next token's log-ratio.

    Raises:
        ValueError: gamma is not within 0 and 1.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"distillation.distillation_loss.gamma={self.gamma} is a discount: set it within 0 and 1.")


def to_go(losses: torch.Tensor, mask: torch.Tensor, gamma: float, mean: bool) -> torch.Tensor:
    """Sum or mean of each token's loss and the discounted ones after it, less what the other responses have there.

    What they have, on average, changes no expectation, only the noise, and there is none where a response has no other
    beside it: let micro-batches hold several.

    Args:
        losses: [responses, tokens], float.
        mask: [responses, tokens], bool; which tokens count.
        gamma: the weight of a token against that of the one before it.
        mean: by the weights of the tokens that count; otherwise the sum.

    Returns:
        [responses, tokens], 0 where the mask is.

    >>> losses, mask = torch.tensor([[1.5, 2.0, 4.0], [3.0, 0.0, 9.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    >>> to_go(losses, mask, gamma=1.0, mean=False).tolist()
    [[4.5, 6.0, 4.0], [-4.5, -6.0, 0.0]]
    >>> to_go(losses, mask, gamma=1.0, mean=True).tolist()
    [[1.0, 3.0, 4.0], [-1.0, -3.0, 0.0]]
    >>> to_go(losses, mask, gamma=0.5, mean=False).tolist()
    [[0.5, 4.0, 4.0], [-0.5, -4.0, 0.0]]
    """
    ahead = _discounted(torch.where(mask, losses, 0), gamma)
    if mean:
        ahead = ahead / _discounted(mask.to(losses.dtype), gamma).clamp(min=1)
    ahead = torch.where(mask, ahead, 0)
    others = (ahead.sum(0) - ahead) / (mask.sum(0) - 1).clamp(min=1)
    return torch.where(mask, ahead - others, 0)


def _discounted(values: torch.Tensor, gamma: float) -> torch.Tensor:
    """Of each row, from each place to the end; in steps that double, as a place's sum is that of half as many places
    and, discounted, that of as many behind them."""
    width = 1
    while width < values.shape[1]:
        values = values + gamma**width * F.pad(values[:, width:], (0, width))
        width *= 2
    return values


@register_distillation_loss(DistillationLossSettings(names=[TO_GO, MEAN], use_estimator=True))
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
    loss = distillation_config.distillation_loss
    losses = to_go(ratios, mask, loss.gamma, mean=loss.loss_mode == MEAN)
    return losses, {"distillation/kl": Metric(AggregationType.MEAN, ratios[mask].mean())}

# SPDX-License-Identifier: Apache-2.0
"""The loss that looks ahead: its gradient is that of the divergence of whole responses, found by enumeration."""

from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st
from verl.trainer.distillation.losses import get_distillation_loss_fn, get_distillation_loss_settings

from swarr_verl.distill_loss import k1_to_go, to_go

CHANCES = torch.tensor([[2, 1, 1], [1, 2, 1], [1, 1, 2]]) / 4  # of a token, [after which token, token]


def test_gradient_is_that_of_whole_responses():
    """A student of three tokens and two steps, in the mean over all batches of two responses that it may draw."""
    first, second = CHANCES[0].log().requires_grad_(), CHANCES.log().requires_grad_()
    teacher_first = torch.tensor([0.1, 0.45, 0.45]).log()
    teacher_second = torch.tensor([[0.2, 0.2, 0.6], [0.3, 0.4, 0.3], [0.8, 0.1, 0.1]]).log()
    rows = [
        (a, b)
        for a, b in product(range(3), repeat=2)
        for _ in range(round(16 * (CHANCES[0, a] * CHANCES[a, b]).item()))
    ]
    assert len(rows) == 16
    a, b = torch.tensor(rows).T
    student = torch.stack([first.log_softmax(-1)[a], second.log_softmax(-1)[a, b]], dim=1)
    teacher = torch.stack([teacher_first[a], teacher_second[a, b]], dim=1)

    def gradient(loss):
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, [first, second], retain_graph=True)])

    whole = first.log_softmax(-1)[:, None] + second.log_softmax(-1)
    wanted = gradient((whole.exp() * (whole - teacher_first[:, None] - teacher_second)).sum())
    ratios = (student - teacher).detach()
    pairs = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    advantages = torch.stack([to_go(ratios[pair], torch.ones(2, 2, dtype=torch.bool)) for pair in pairs])
    torch.testing.assert_close(gradient((advantages * student[pairs]).sum(2).mean()), wanted)
    alone = gradient((ratios * student).sum(1).mean())  # verl's k1
    assert (alone - wanted)[:3].abs().max() > 0.01, "the first token never hears of the second"
    torch.testing.assert_close(alone[3:], wanted[3:])


@given(
    st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_to_go_by_hand(counts, random):
    """Also of responses with tokens that do not count, such as a tool's."""
    mask = torch.tensor(counts)
    losses = torch.tensor([[random.uniform(-3, 3) for _ in row] for row in counts])
    found = to_go(losses, mask)
    for token in range(6):
        sums = {row: (mask * losses)[row, token:].sum() for row in range(len(counts)) if mask[row, token]}
        for row in range(len(counts)):
            others = [sums[other] for other in sums if other != row]
            baseline = sum(others) / len(others) if others else 0.0
            wanted = sums[row] - baseline if row in sums else torch.tensor(0.0)
            torch.testing.assert_close(found[row, token], wanted, rtol=1e-5, atol=1e-5)


def test_verl_knows_it():
    assert get_distillation_loss_fn("swarr_k1_to_go") is k1_to_go
    assert get_distillation_loss_settings("swarr_k1_to_go").use_estimator

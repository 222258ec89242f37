# SPDX-License-Identifier: Apache-2.0
"""The losses that look ahead: the sum's gradient is that of the divergence of whole responses, found by enumeration."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from verl.trainer.distillation.losses import get_distillation_loss_fn, get_distillation_loss_settings

from swarr_verl.distill_loss import MEAN, TO_GO, k1_to_go, to_go

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
    every = torch.ones(2, 2, dtype=torch.bool)
    advantages = torch.stack([to_go(ratios[pair], every, 1.0, mean=False) for pair in pairs])
    torch.testing.assert_close(gradient((advantages * student[pairs]).sum(2).mean()), wanted)
    alone = gradient((ratios * student).sum(1).mean())  # verl's k1
    assert (alone - wanted)[:3].abs().max() > 0.01, "the first token never hears of the second"
    torch.testing.assert_close(alone[3:], wanted[3:])


@given(
    st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_to_go_by_hand(counts, gamma, mean, random):
    """Also of responses with tokens that do not count, such as a tool's."""
    mask = torch.tensor(counts)
    losses = torch.tensor([[random.uniform(-3, 3) for _ in row] for row in counts])
    found = to_go(losses, mask, gamma, mean)
    for token in range(6):
        weights = mask[:, token:] * gamma ** torch.arange(6 - token)
        sums = (weights * losses[:, token:]).sum(1)
        ahead = sums / weights.sum(1) if mean else sums
        for row in range(len(counts)):
            others = [ahead[other] for other in range(len(counts)) if other != row and mask[other, token]]
            baseline = sum(others) / len(others) if others else 0.0
            wanted = ahead[row] - baseline if mask[row, token] else torch.tensor(0.0)
            torch.testing.assert_close(found[row, token], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("gamma", "mean", "silence", "running_on"),
    [(1.0, False, True, False), (1.0, True, False, True), (0.95, True, False, False)],
)
def test_what_is_asked_of_a_student_that_cannot_do_better(gamma, mean, silence, running_on):
    """A token of an answer costs it half a nat; an end at once 10, going on behind an answer 10 and little after."""
    losses, mask = torch.full((3, 200), 0.5), torch.zeros(3, 200, dtype=torch.bool)
    losses[1, 0], losses[2, 39], losses[2, 40:] = 10.0, 10.0, 0.1
    for row, length in enumerate([40, 1, 200]):  # an answer; an end at once; the answer without an end
        mask[row, :length] = True
    pair = to_go(losses[[0, 1]], mask[[0, 1]], gamma, mean)
    assert (pair[1, 0] < pair[0, 0]) == silence
    pair = to_go(losses[[0, 2]], mask[[0, 2]], gamma, mean)
    assert (pair[1, 39] < pair[0, 39]) == running_on


def test_verl_knows_them():
    for name in (TO_GO, MEAN):
        assert get_distillation_loss_fn(name) is k1_to_go
        assert get_distillation_loss_settings(name).use_estimator

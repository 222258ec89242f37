# SPDX-License-Identifier: Apache-2.0
"""A model that is sometimes right, without training."""

from itertools import pairwise
from pathlib import Path

import tiny
import torch

RIGHT, WRONG = [[rf"{start} \boxed{{{digit}}}" for start in ("It is", "So")] for digit in (7, 8)]
TEXTS = [*RIGHT, *WRONG, *(text + "<|im_start|>" for text in RIGHT + WRONG)]


def parrot(folder: Path) -> Path:
    """A checkpoint that says one of TEXTS, each as likely, whatever it is asked.

    Layers add nothing, so that the embedding of a token alone, a unit vector, says what may follow it.
    """
    tok = tiny.tokenizer()
    spoken = [tok(f"\n{text}<|im_end|>", add_special_tokens=False)["input_ids"] for text in TEXTS]
    config = tiny.config("qwen2", vocab_size=len(tok), eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
    model = tiny.model(config, dtype=torch.float32)
    unit = {token: i for i, token in enumerate(sorted({token for ids in spoken for token in ids}))}
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings, head = model.model.embed_tokens.weight.zero_(), model.lm_head.weight.zero_()
        for token, i in unit.items():
            embeddings[token, i] = 1
        for ids in spoken:
            for token, following in pairwise(ids):
                head[following, unit[token]] = 4  # times sqrt(128), by the norm: a logit of 45
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder

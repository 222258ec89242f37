# SPDX-License-Identifier: Apache-2.0
"""How surprising the responses of a packed greedy run are to the model itself, under the window of the run.

    python examples/evaluation/surprise.py MODEL results/unsound/greedy_W512.jsonl.gz --window 512

What a validation-only run asks of its own trainer (`swarr_verl.verify.check_surprise`), by transformers, in fp32, for
files that are older than that check. Responses are taken at equal distances, in the order of the file.
"""

import argparse
import gzip
import json

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from swarr_verl.families import apply_window
from swarr_verl.verify import SCORED_TOKENS, check_surprise
from swarr_verl.window import WindowSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or hub name")
    parser.add_argument("run", help="a jsonl.gz of pack.py, greedy")
    parser.add_argument("--window", type=int, required=True, help="tokens")
    parser.add_argument("--n", type=int, default=32, help="responses")
    parser.add_argument("--limit", type=float, default=0.05, help="swarr.max_excess_nll")
    args = parser.parse_args()
    with gzip.open(args.run, "rt") as file:
        rows = [json.loads(line) for line in file]
    config = apply_window(AutoConfig.from_pretrained(args.model), WindowSpec(args.window))
    model = AutoModelForCausalLM.from_pretrained(args.model, config=config, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    scores = [score(model, tokenizer, rows[index * len(rows) // args.n]) for index in range(args.n)]
    print(f"{args.run}: of {args.n} responses, {sum(excess > 0 for excess, _ in scores)} lie above the entropy")
    sums, tokens = zip(*scores, strict=True)
    print(f"{check_surprise(sums, tokens, args.limit):+.3f} nats a token")


@torch.no_grad()
def score(model, tokenizer, row: dict) -> tuple[float, int]:
    """Return negative log-likelihood less entropy of the first tokens of a response, nats, and how many they are."""
    messages = [{"role": "user", "content": row["input"].split("user\n", 1)[1].rsplit("\nassistant", 1)[0]}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    response = tokenizer(row["output"], add_special_tokens=False)["input_ids"][:SCORED_TOKENS]
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    logp = logits.log_softmax(-1)
    nll = -logp.gather(1, torch.tensor(response)[:, None])[:, 0]
    return (nll + (logp.exp() * logp).sum(1)).sum().item(), len(response)


if __name__ == "__main__":
    main()

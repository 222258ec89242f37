# SPDX-License-Identifier: Apache-2.0
"""A row of each data set that `prepare` knows, and what becomes of it."""

from swarr_verl.datasets_table import DAPO_AFTER, DAPO_BEFORE

GSM8K = [
    {"question": " Tom has 3 eggs. How many are 2 Toms'? ", "answer": "3*2=<<3*2=6>>6 eggs.\n#### 6"},
    {"question": "What do 12 cost at $100?", "answer": "12*100 = <<12*100=1200>>1200\n#### 1,200"},
]
ROWS = {  # of each data set: a row with an answer; what becomes of it
    "gsm8k": (GSM8K[1], ("What do 12 cost at $100?", "1200", "12*100 = 1200")),
    "math": ({"problem": "1/2?", "solution": r"So \boxed{\frac{1}{2}}."}, ("1/2?", r"\frac{1}{2}", ...)),
    "math500": ({"problem": "1?", "answer": "p - q", "solution": "none"}, ("1?", "p - q", None)),
    "dapo-math-17k": (
        {"prompt": [{"content": DAPO_BEFORE + "2?" + DAPO_AFTER}], "reward_model": {"ground_truth": "34"}},
        ("2?", "34", None),
    ),
    "openr1-math-220k": (
        {
            "problem": "3?",
            "answer": "9",
            "generations": ["wrong", "right", "right too"],
            "correctness_math_verify": [False, True, True],
            "correctness_llama": None,
        },
        ("3?", "9", "right"),
    ),
    "openmathreasoning": (
        {"problem": "4?", "expected_answer": "16", "generated_solution": "<think>4 4s</think>16"},
        ("4?", "16", "<think>4 4s</think>16"),
    ),
    "numinamath": (
        {"problem": "5?", "answer": "B", "solution": "s", "problem_is_valid": "Yes", "solution_is_valid": "Yes"},
        ("5?", "B", "s"),
    ),
    "aime24": ({"problem": "6?", "answer": "025"}, ("6?", "025", None)),
    "aime25": ({"problem": "7?", "answer": 70}, ("7?", "70", None)),
    "amc23": ({"question": "8?", "answer": -1.0}, ("8?", "-1", None)),
}

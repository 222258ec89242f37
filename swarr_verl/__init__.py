# SPDX-License-Identifier: Apache-2.0
"""SWARR for verl: sliding-window attention in SFT and RL, one window on both sides."""

__version__ = "0.1.0"

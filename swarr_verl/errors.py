# SPDX-License-Identifier: Apache-2.0
"""What the user can mend."""


class UserError(ValueError):
    """Something cannot be had as asked. The message names the option or the Hydra key, and the remedy."""

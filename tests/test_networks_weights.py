"""State dicts: what is none is said in one line."""

import pytest
import torch

from spic.errors import SpicError
from spic.networks.weights import read_state_dict


@pytest.mark.parametrize("state", [{0: torch.zeros(1)}, {"a": torch.zeros(1), 5: torch.zeros(1)}, {None: torch.zeros(1)},
                                   {"a": 1.0}, [torch.zeros(1)], torch.zeros(1), {"a": {"b": torch.zeros(1)}},
                                   {"a": torch.zeros(2, 2).to_sparse()}, {"a": torch.zeros(1, dtype=torch.complex64)}])
def test_a_file_that_maps_no_names_to_tensors_is_no_state_dict(tmp_path, state):
    """Integer keys in a .pth, and the like."""
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(SpicError, match="w.pth: holds no state dict"):
        read_state_dict(tmp_path / "w.pth")

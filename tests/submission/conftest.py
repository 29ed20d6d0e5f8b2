"""One honest submission for all tests."""

import pytest
import submitted


@pytest.fixture(scope="session")
def honest(tmp_path_factory):
    """Its file; the runs lie beside it in ``runs``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.runner.outputs.PICTURES", ())
        patch.setattr("clbench.runner.screen.show", lambda *_: None)
        return submitted.make(tmp_path_factory.mktemp("honest")).path


@pytest.fixture(scope="session")
def members(honest):
    """Its members, by name."""
    return submitted.members_of(honest)

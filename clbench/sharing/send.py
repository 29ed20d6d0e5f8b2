"""Sending to the Hugging Face hub: one commit, whole or not at all.

Whose it is, is huggingface_hub's to know: its token comes from the environment or from its login,
and is neither shown nor written here.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, NoReturn

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, errors, get_token
from huggingface_hub.utils.tqdm import disable_progress_bars

from clbench import __version__
from clbench.errors import ClbenchError, first_line, reason
from clbench.sharing.upload import CARD, Upload

_LOGIN: Final = "log in (hf auth login), or set HF_TOKEN"


def address(repository: str) -> str:
    """The address of a repository."""
    return f"{constants.ENDPOINT}/{repository}"


def check_login() -> None:
    """Refuse to begin without a token.

    Raises:
        ClbenchError: if there is none.
    """
    if not _token():
        raise ClbenchError(f"the hub is to know who pushes, and there is no token: {_LOGIN}")


def send(upload: Upload, update: bool = False) -> str:
    """Make the repository and send all files to it, in one commit.

    Args:
        upload: what, and where to.
        update: whether the repository may be there already; then its files of the same names are
            replaced, and its history keeps them.

    Returns:
        The address of the commit.

    Raises:
        ClbenchError: if the hub refuses or cannot be reached, saying what is there now.
    """
    _refuse_secrets(upload)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
    _check_card(upload)
    api = HfApi(library_name="clbench", library_version=__version__)
    made = _made(api, upload, update)
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in upload.files.items()
    ]
    try:
        commit = api.create_commit(
            upload.repository, operations, commit_message="Push a run of clbench"
        )
    except Exception as error:  # of the network, each client with kinds of its own
        left = (
            "the repository was made and is empty: the same command with --update goes on"
            if made
            else "nothing in the repository has changed"
        )
        _refuse(upload, error, left)
    return str(commit.commit_url)


def _check_card(upload: Upload) -> None:
    """Have the hub read the card's metadata, before there is a repository.

    Raises:
        ClbenchError: if it refuses them, a licence that it does not know for one.
    """
    card = upload.files[CARD]
    assert isinstance(card, bytes)
    try:
        ModelCard(card.decode()).validate()
    except ValueError as error:
        raise ClbenchError(
            f"the hub refuses the card's metadata ({reason(error)[:300]}): --license takes its own "
            "names, such as apache-2.0 or cc-by-4.0; nothing was sent"
        ) from error
    except Exception as error:
        _refuse(upload, error, "nothing was sent")


def _made(api: HfApi, upload: Upload, update: bool) -> bool:
    """Make the repository; whether it was not there before."""
    where = address(upload.repository)
    try:
        api.create_repo(upload.repository, private=upload.private, exist_ok=False)
        return True
    except errors.HfHubHTTPError as error:
        if _status(error) != 409:
            _refuse(upload, error, "nothing was sent")
    except Exception as error:
        _refuse(upload, error, "nothing was sent")
    if not update:
        raise ClbenchError(
            f"{where} is there already: say --update to replace its files of the same names in a "
            "new commit, or another name"
        )
    try:
        private = api.model_info(upload.repository).private
    except Exception as error:
        _refuse(upload, error, "nothing was sent")
    if upload.private and not private:
        raise ClbenchError(
            f"--private: {where} is there already, and everybody sees it: make it private on its "
            "page, or choose another name; nothing was sent"
        )
    return False


def _refuse(upload: Upload, error: Exception, left: str) -> NoReturn:
    """Raise the one line of what went wrong, with what is there now."""
    owner, where = upload.repository.partition("/")[0], address(upload.repository)
    status = _status(error)
    if status == 401:
        why = f"the hub does not know the token ({_LOGIN})"
    elif status == 403:
        why = f"the token may not write to {owner} (make one with the role write, or choose --to)"
    elif status is not None:
        why = f"the hub answered {status} ({first_line(error)})"
    else:
        why = f"{constants.ENDPOINT} cannot be reached ({first_line(error)}): try again later"
    raise ClbenchError(f"{where}: {_without_token(why)}; {left}") from error


def _status(error: Exception | None) -> int | None:
    """The hub's answer; an error may be another's cause."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        cause = error.__cause__
        error = cause if isinstance(cause, Exception) else None
    return None


def _token() -> str | None:
    try:
        return get_token()
    except Exception as error:
        raise ClbenchError(f"no token can be had ({first_line(error)}): {_LOGIN}") from error


def _without_token(text: str) -> str:
    token = _token()
    return text.replace(token, "…") if token else text


def _refuse_secrets(upload: Upload) -> None:
    """Refuse texts that hold the token, wherever they have it from."""
    token = (_token() or "").encode()
    for name, content in upload.files.items():
        if token and isinstance(content, bytes) and token in content:
            raise ClbenchError(f"{name} holds your token of the hub: take it out; nothing was sent")

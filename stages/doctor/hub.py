"""The Hugging Face hub and servers of models asked one short question each: are they there, and may we?"""

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal

WAIT_S = 5.0  # seconds for one answer


@dataclass(frozen=True)
class Answer:
    """What the hub says of a model or data set; `problem` is empty where it can be had.

    `bytes` and `parameters` are those of its safetensors, 0 where it has none.
    """

    problem: str = ""
    expected: str = ""
    bytes: int = 0
    parameters: int = 0


def ask(kind: Literal["model", "dataset"], name: str, commit: str) -> Answer:
    """Return whether a commit of a model or data set can be had from the hub, with the token that is in use."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi()
    files = "or its files in a local folder"
    try:
        info: Any = (api.model_info if kind == "model" else api.dataset_info)(
            name, revision=commit, timeout=WAIT_S, files_metadata=True
        )
        api.auth_check(name, repo_type=kind)
    except GatedRepoError:
        return Answer("is gated", f"a token in HF_TOKEN whose owner was given access to it, {files}")
    except RevisionNotFoundError:
        return Answer(f"has no commit {commit} on the hub", "one of its commits")
    except RepositoryNotFoundError:
        return Answer("is not on the hub, or private", f"a token in HF_TOKEN that may read it, {files}")
    except OfflineModeIsEnabled:
        return Answer(
            "is not in the local cache, and HF_HUB_OFFLINE forbids to ask the hub", f"that variable unset, {files}"
        )
    except Exception as error:  # the client raises its own, and those of the HTTP library beneath
        return Answer(f"is not in the local cache, and the hub cannot be asked: {type(error).__name__}", files[3:])
    size = sum(file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors"))
    told = getattr(info, "safetensors", None)
    return Answer(bytes=size, parameters=told.total if told else size // 2)  # of two bytes each, as most are


@dataclass(frozen=True)
class Server:
    """What a server with `/models` says: an HTTP status, 0 where nothing was heard, and the names that it lists."""

    status: int
    names: tuple[str, ...] = ()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is for the server that is named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


def listed(base_url: str, key: str) -> Server:
    """Return what a server lists. `key` goes to it and nowhere else; nothing of it is in what is returned."""
    url = re.sub(r"//[^/]*@", "//", base_url).rstrip("/") + "/models"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key or 'none'}"})  # noqa: S310 (checked to be http)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=WAIT_S) as answer:
            said = json.loads(answer.read(1 << 20))
            return Server(answer.status, tuple(str(one["id"]) for one in said["data"]))
    except urllib.error.HTTPError as error:
        return Server(error.code)
    except (ValueError, KeyError, TypeError):  # it is there, and has no such list
        return Server(200)
    except OSError:
        return Server(0)

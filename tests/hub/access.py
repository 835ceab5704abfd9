"""Who may read what, and the words in which the Hub refuses."""

from fnmatch import fnmatchcase

from tests.hub.exchange import Exchange
from tests.hub.reply import Reply, refusal
from tests.hub.repository import Commit, Repository

_PUBLIC_OF_GATED = ("README.md", ".gitattributes")
WRONG_TOKEN = "Invalid credentials in Authorization header"
DISABLED = "Access to this resource is disabled."


def wrong_token(exchange: Exchange) -> Reply | None:
    """A token that nobody has is refused everywhere, public repositories included."""
    if exchange.request.authorization is None or exchange.token in exchange.state.users:
        return None
    return refusal(401, WRONG_TOKEN, WWW_Authenticate='Bearer realm="Authentication required"')


def find(exchange: Exchange, repo_id: str, file: str | None = None) -> Repository | Reply:
    """The repository, or why not.

    Args:
        exchange: The request.
        repo_id: Which repository.
        file: The file wanted from it; None for what a gated repository shows to all.
    """
    if reply := wrong_token(exchange):
        return reply
    repo = exchange.state.repositories.get(repo_id)
    allowed = repo is not None and repo.token is not None and exchange.token == repo.token
    if repo is None or (repo.private and not allowed):
        # A stranger is not told whether the repository is missing or private.
        if exchange.token:
            return refusal(404, "Repository not found", "RepoNotFound")
        return refusal(401, "Invalid username or password.", "RepoNotFound")
    if repo.disabled:
        return refusal(403, DISABLED)
    public = file is None or any(fnmatchcase(file, name) for name in _PUBLIC_OF_GATED)
    if repo.gated and not allowed and not public:
        restricted = f"Access to model {repo_id} is restricted"
        if exchange.token:
            return refusal(403, f"{restricted} and you are not in the authorized list.", "GatedRepo")
        return refusal(401, f"{restricted}. You must have access to it and be authenticated.", "GatedRepo")
    return repo


def find_commit(repo: Repository, revision: str) -> Commit | Reply:
    """The commit, or that there is none."""
    commit = repo.at(revision)
    return refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound") if commit is None else commit

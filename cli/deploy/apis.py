"""Google's REST APIs, as far as `lowtide deploy check` reads them. It changes nothing."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import google.auth
import google.auth.exceptions
import google.oauth2.credentials
import requests
from google.auth.environment_vars import CREDENTIALS
from google.auth.transport.requests import AuthorizedSession, Request

from lowtide.cli.deploy.errors import ApiRefused, CredentialsMissing

BASE = "https://{service}.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TIMEOUT_S = 30.0
NOT_FOUND = 404
LOGIN = "gcloud auth application-default login"


class GoogleApis:
    """Calls by `session`, which adds credentials; `base` is the address of a service. Raises ApiRefused."""

    def __init__(self, session: requests.Session, *, base: str = BASE) -> None:
        self._session = session
        self._base = base

    def get(self, service: str, path: str, **query: Any) -> dict[str, Any] | None:
        """What the API says of it; None: there is no such thing, or none that these credentials may see."""
        return self._call("GET", service, path, params=query)

    def pages(self, service: str, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The pages of a list; none of a thing that is not there."""
        page = self.get(service, path, **query)
        while page is not None:
            yield page
            token = page.get("nextPageToken")
            page = self.get(service, path, **query, pageToken=token) if token else None

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a method says that only asks; None as for `get`."""
        return self._call("POST", service, path, json=body)

    def _call(self, method: str, service: str, path: str, **sent: Any) -> dict[str, Any] | None:
        url = f"{self._base.format(service=service)}/{path}"
        try:
            answer = self._session.request(method, url, timeout=TIMEOUT_S, **sent)
            if answer.status_code == NOT_FOUND:
                return None
            said = answer.json()
        except google.auth.exceptions.GoogleAuthError as error:
            raise _refused(error) from error
        except requests.JSONDecodeError as error:
            raise ApiRefused(f"{service} answers {answer.status_code}, and not in JSON") from error
        except requests.RequestException as error:
            raise ApiRefused(f"{service} can't be reached: {error}") from error
        if not answer.ok:
            raise ApiRefused(_why_refused(service, answer.status_code, said))
        found: dict[str, Any] = said
        return found


def _why_refused(service: str, status: int, said: Any) -> str:
    """In Google's words, which come as https://cloud.google.com/apis/design/errors says, "HTTP mapping"; or, from
    something between us and Google, in none.
    """
    error = said.get("error") if isinstance(said, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f"{service} refuses: {message}" if message else f"{service} answers {status}"


def connect_apis(project: str) -> tuple[GoogleApis, str]:
    """The APIs by the application default credentials, and whose these are. Raises CredentialsMissing."""
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
        if isinstance(credentials, google.oauth2.credentials.Credentials) and not credentials.quota_project_id:
            # A person's calls count against a project; without one, some APIs refuse them.
            credentials = credentials.with_quota_project(project)
        # google-auth has no types for its calls.
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except google.auth.exceptions.DefaultCredentialsError as error:
        if key_file := os.environ.get(CREDENTIALS):
            raise CredentialsMissing(
                f"{CREDENTIALS}={key_file}: {error}", f"correct it, or unset it: {LOGIN}"
            ) from error
        raise CredentialsMissing(
            "there are no application default credentials", f"{LOGIN}, or {CREDENTIALS}=<a key file>"
        ) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise _refused(error) from error
    whose = getattr(credentials, "service_account_email", None) or "an application default login"
    return GoogleApis(AuthorizedSession(credentials)), whose  # type: ignore[no-untyped-call]


def _refused(error: google.auth.exceptions.GoogleAuthError) -> CredentialsMissing:
    if isinstance(error, google.auth.exceptions.TransportError):
        return CredentialsMissing(f"the credentials can't be renewed: {error}", "look at this machine's network")
    return CredentialsMissing(f"the credentials are refused: {error}", LOGIN)

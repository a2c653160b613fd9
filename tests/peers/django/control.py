"""What a test may ask the server about, and have its user do."""

import base64
import json
from urllib.parse import unquote_plus

from django.contrib.auth.models import User
from django.http import JsonResponse
from django.test import Client
from django.urls import path
from oauth2_provider.models import DeviceGrant, Grant

log = []


def keep(get_response):
    """Every token request, as the server understood it."""

    def middleware(request):
        response = get_response(request)
        if request.path == "/token/":
            log.append(
                {
                    "client": client_of(request),
                    "grant": request.POST.get("grant_type"),
                    "status": response.status_code,
                    "error": json.loads(response.content).get("error"),
                }
            )
        return response

    return middleware


def client_of(request):
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return request.POST.get("client_id")
    return unquote_plus(base64.b64decode(credentials).decode().partition(":")[0])


def authorize(url):
    """Follows an authorization request to where the server sends its user in the end."""
    return {"location": browser().get(url)["Location"]}


def allow(verification_uri, user_code, allow):
    """Allows a device, or denies it."""
    person = browser()
    confirm = person.post(verification_uri, {"user_code": user_code})["Location"]
    end = person.post(confirm, {"action": "accept" if allow else "deny"})
    return {"page": end["Location"]}


def expire(code=None, user_code=None):
    """Has a login's code, or a device's, be as old as it can get."""
    model, key = (Grant, {"code": code}) if code else (DeviceGrant, {"user_code": user_code})
    grant = model.objects.get(**key)
    grant.expires = grant.expires.replace(year=2000)
    grant.save()
    grant.is_expired()  # which is where a device's notices
    return {}


def browser():
    """A person at a browser who is logged in, without the browser."""
    client = Client()
    client.force_login(User.objects.get(username="alice"))
    return client


def control(action):
    return lambda request: JsonResponse(action(**json.loads(request.body)), safe=False)


control_urls = [
    path("log", control(lambda: log)),
    path("authorize", control(authorize)),
    path("allow", control(allow)),
    path("expire", control(expire)),
]

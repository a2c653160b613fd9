"""A client has one grant here, after which it is named; those for users may refresh as well."""

from django.contrib.auth.models import User
from oauth2_provider.models import Application

SECRET = "s3cret-0123456789-0123456789-0123456789"


def register():
    User.objects.create_user("alice")
    machine = Application.GRANT_CLIENT_CREDENTIALS
    code, device = Application.GRANT_AUTHORIZATION_CODE, Application.GRANT_DEVICE_CODE
    confidential, public = Application.CLIENT_CONFIDENTIAL, Application.CLIENT_PUBLIC
    for client_id, client_type, grant, secret in [
        ("client_credentials", confidential, machine, SECRET),
        ("authorization_code", confidential, code, SECRET),
        ("authorization_code-none", public, code, ""),
        ("device_code", confidential, device, SECRET),
        ("device_code-none", public, device, ""),
        ("weird:id/+ %41", confidential, machine, f"p@ss:w%rd+&= /?~{SECRET}"),
    ]:
        Application.objects.create(
            client_id=client_id,
            client_type=client_type,
            authorization_grant_type=grant,
            client_secret=secret,
            hash_client_secret=False,  # so that no request waits for the hash
            redirect_uris="http://127.0.0.1/callback",
            skip_authorization=True,
            algorithm=Application.RS256_ALGORITHM,
        )

from django.urls import include, path

from control import control_urls

urlpatterns = [
    path("control/", include(control_urls)),
    path("", include("oauth2_provider.urls")),
]

"""Where everything is: pages at the root, REST under /v1/, the admin under /admin/."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.http import HttpRequest, JsonResponse
from django.urls import include, path


def healthz(request: HttpRequest) -> JsonResponse:
    """The web process answers. No login, no database."""
    return JsonResponse({"status": "ok"})


urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path(
        "login/",
        auth.LoginView.as_view(template_name="login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("v1/", include("training.api.urls")),
    path("", include("training.urls")),
]

"""Where everything is: pages at the root, REST under /v1/, the admin under /admin/."""

import sys

from django.contrib import admin
from django.contrib.auth import views as auth
from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.templatetags.static import static
from django.urls import include, path
from django.views import defaults
from django.views.generic import RedirectView

from training.presentation import errors
from training.presentation.throttles import throttle_login


def healthz(request: HttpRequest) -> JsonResponse:
    """The web process answers. No login, no database."""
    return JsonResponse({"status": "ok"})


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path_info.startswith("/v1/"):
        return errors.answer_400(request, exception)
    response = defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        response.status_code = 413
    return response


def handler500(request: HttpRequest) -> HttpResponse:
    """A database that is away is no mistake of ours."""
    is_away = isinstance(sys.exc_info()[1], OperationalError)
    if request.path_info.startswith("/v1/"):
        return errors.answer_503() if is_away else errors.answer_500()
    if not is_away:
        return defaults.server_error(request)
    response = defaults.server_error(request, template_name="503.html")
    response.status_code, response["Retry-After"] = 503, "5"
    return response


login = auth.LoginView.as_view(template_name="login.html", redirect_authenticated_user=True)

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("favicon.ico", RedirectView.as_view(url=static("heimdall/favicon.svg"), permanent=True)),
    path("login/", throttle_login(login), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/login/", throttle_login(admin.site.login)),
    path("admin/", admin.site.urls),
    path("v1/", include("training.api.urls")),
    path("", include("training.urls")),
]

"""Where everything is: pages at the root, REST under /v1/, the admin under /admin/."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.templatetags.static import static
from django.urls import include, path
from django.views import defaults
from django.views.generic import RedirectView

from training.api import errors
from training.api.throttles import throttle_login


def healthz(request: HttpRequest) -> JsonResponse:
    """The web process answers. No login, no database."""
    return JsonResponse({"status": "ok"})


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith("/v1/"):
        return errors.answer_400(request, exception)
    response = defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        response.status_code = 413
    return response


def handler500(request: HttpRequest) -> HttpResponse:
    return errors.answer_500(request) if request.path.startswith("/v1/") else defaults.server_error(request)


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

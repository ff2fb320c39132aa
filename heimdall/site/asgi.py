"""The web process: HTTP through Django, WebSockets through Channels."""

import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "heimdall.site.settings")

# whitenoise answers with pieces that are read one after the other; Django reads such an answer whole, which suits
# files of the size of ours. In tests this filter does not stand, so that an answer of our own would be an error.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

django_application = get_asgi_application()  # first: it loads the apps that routing imports

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402

from heimdall.site import database  # noqa: E402
from heimdall.site.limits import bounded_bodies  # noqa: E402
from heimdall.site.prefix import below  # noqa: E402
from training.api.uploads import most_upload_bytes  # noqa: E402
from training.live.routing import allowed_origins, websocket_urlpatterns  # noqa: E402

database.share_connections("web")
application = below(
    settings.URL_PREFIX,
    ProtocolTypeRouter(
        {
            "http": bounded_bodies(django_application, most_upload_bytes=most_upload_bytes),
            "websocket": allowed_origins(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        }
    ),
)

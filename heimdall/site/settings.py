"""Every setting comes from the environment; the defaults run on a bare laptop."""

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from heimdall.site import database, env, private_files
from training import fields

private_files.hide_new_files()  # first: every entry point reads the settings before it writes anything

# In a wheel, templates and static files stand beside this file; in a checkout at its top.
IS_INSTALLED = (Path(__file__).parent / "templates").is_dir()
BASE_DIR = Path(__file__).resolve().parent if IS_INSTALLED else Path(__file__).resolve().parents[2]
DATA_DIR = env.folder("HEIMDALL_DATA_DIR", Path("var") if IS_INSTALLED else BASE_DIR / "var")

DEBUG = env.flag("HEIMDALL_DEBUG", False)
SECRET_KEY = env.text("HEIMDALL_SECRET_KEY") or env.secret_in_file(DATA_DIR / "secret-key")
HOST = env.text("HEIMDALL_HOST", "127.0.0.1")
PORT = env.integer("HEIMDALL_PORT", 8000, low=1, high=65_535)
ALLOWED_HOSTS = env.hosts("HEIMDALL_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env.origins("HEIMDALL_TRUSTED_ORIGINS")

# What a link in a message begins with; a path in it is what every page begins with.
PUBLIC_URL = env.web_address("HEIMDALL_URL", env.http_url(HOST, PORT))
URL_PREFIX = urlsplit(PUBLIC_URL).path
FORCE_SCRIPT_NAME = URL_PREFIX or None

# HTTPS=1 says that a proxy in front speaks TLS: cookies, redirects and HSTS follow from it.
HTTPS = env.flag("HEIMDALL_HTTPS", False)
# Whose X-Forwarded-For is believed. A proxy on this very host is, where one is said to be.
TRUSTED_PROXIES = env.networks("HEIMDALL_TRUSTED_PROXIES", "127.0.0.1,::1" if HTTPS else "")
SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REDIRECT_EXEMPT = [
    rf"^{re.escape(URL_PREFIX[1:] + '/') if URL_PREFIX else ''}(healthz|readyz|metrics)$"
]
# Names of their own: other applications on the same host have a sessionid, whatever their path or port.
SESSION_COOKIE_NAME = "heimdall_session"
CSRF_COOKIE_NAME = "heimdall_csrf"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # and no third cookie
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = f"{URL_PREFIX}/"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = False  # the pages' own script reads it for its buttons
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
# Of one web process, which never opens more than the system allows it files.
MAX_CONNECTIONS = env.integer("HEIMDALL_MAX_CONNECTIONS", 2_000, low=10, high=1_000_000)
MAX_CONNECTIONS_PER_ADDRESS = env.integer("HEIMDALL_MAX_CONNECTIONS_PER_ADDRESS", 200, low=5, high=1_000_000)
HEADER_SECONDS = env.seconds("HEIMDALL_HEADER_SECONDS", 10, low=0.1, high=600)
BODY_SECONDS = env.seconds("HEIMDALL_BODY_SECONDS", 60, low=0.1, high=3_600)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "storages",
    "django_q",
    "training",
]

MIDDLEWARE = [
    "heimdall.site.latencies.measure",
    "heimdall.site.middleware.protective_headers",  # first: refusals and redirects of the others carry it too
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "heimdall.site.urls"
ASGI_APPLICATION = "heimdall.site.asgi.application"
WSGI_APPLICATION = "heimdall.site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": database.configured(DATA_DIR)}
SQLITE = DATABASES["default"]["ENGINE"] == database.SQLITE
LISTEN_URL = database.listening(SQLITE)
# Of PostgreSQL; for the web and the workers, not for commands.
WEB_CONNECTIONS = env.integer("HEIMDALL_WEB_CONNECTIONS", 10, low=2, high=1_000)
STATEMENT_SECONDS = env.seconds("HEIMDALL_STATEMENT_SECONDS", 60, low=0)
LOCK_SECONDS = env.seconds("HEIMDALL_LOCK_SECONDS", 10, low=0)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Where checkpoints and datasets lie: in an S3 bucket, if one is named, else in the data folder.
S3_BUCKET = env.matching("HEIMDALL_S3_BUCKET", r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", "the name of a bucket")
S3 = {
    "bucket": S3_BUCKET,
    "endpoint": env.url("HEIMDALL_S3_ENDPOINT"),
    "public_endpoint": env.url("HEIMDALL_S3_PUBLIC_ENDPOINT"),
    "region": env.text("AWS_REGION") or env.text("AWS_DEFAULT_REGION"),
    "timeout": env.seconds("HEIMDALL_S3_TIMEOUT_SECONDS", 20, low=0.1, high=600),
}
S3_PREFIX = env.matching(
    "HEIMDALL_S3_PREFIX", r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,98}[A-Za-z0-9]|[A-Za-z0-9]", "a plain path"
)
if not S3_BUCKET and (S3_PREFIX or S3["endpoint"] or S3["public_endpoint"]):
    raise ImproperlyConfigured("HEIMDALL_S3_BUCKET is missing: other HEIMDALL_S3 variables are set.")


def _store(folder: str) -> dict[str, Any]:
    if S3_BUCKET:
        prefix = f"{S3_PREFIX}/{folder}" if S3_PREFIX else folder
        return {"BACKEND": "training.store.s3.S3Storage", "OPTIONS": S3 | {"prefix": prefix}}
    return {
        "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / folder},
    }


STORAGES = {
    "default": {
        "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "files"},
    },
    "checkpoints": _store("checkpoints"),
    "datasets": _store("datasets"),
    "code": _store("code"),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
STAGING_DIR = DATA_DIR / "staging"
SCRATCH_DIR = DATA_DIR / "scratch"
# How much of one job may wait there for a store that is away; the newest always may. A trainer stages no more than 8.
STAGING_MAX_FILES = env.integer("HEIMDALL_STAGING_MAX_FILES", 4, low=1, high=8)
STAGING_MAX_GB = env.gigabytes("HEIMDALL_STAGING_MAX_GB", 50)
LOG_MB = env.integer("HEIMDALL_LOG_MB", 32, low=1, high=100_000)
LOG_KB_PER_SECOND = env.integer("HEIMDALL_LOG_KB_PER_SECOND", 32, low=1, high=100_000)

STATIC_URL = f"{URL_PREFIX}/static/"
STATIC_ROOT = env.folder(
    "HEIMDALL_STATIC_ROOT", DATA_DIR / "static"
)  # made now: whitenoise warns where there is none
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # no collectstatic needed before the first start

# Workers. Lease times are counted in the database's clock.
LEASE_SECONDS = env.seconds("HEIMDALL_LEASE_SECONDS", 60, low=1)
HEARTBEAT_SECONDS = env.seconds("HEIMDALL_HEARTBEAT_SECONDS", 10, low=0.1)
if HEARTBEAT_SECONDS * 2 > LEASE_SECONDS:
    raise ImproperlyConfigured("HEIMDALL_HEARTBEAT_SECONDS must be at most half of HEIMDALL_LEASE_SECONDS.")
ELASTIC_SECONDS = env.seconds("HEIMDALL_ELASTIC_SECONDS", 0, low=0)
# Certificates: how often a state is hashed between two checkpoints, and how many stretches are trained again unasked.
HASH_SECONDS = env.seconds("HEIMDALL_HASH_SECONDS", 60, low=0)
REPLAY_PERCENT = env.integer("HEIMDALL_REPLAY_PERCENT", 0, low=0, high=100)
SIGNING_KEY_FILE = Path(env.text("HEIMDALL_SIGNING_KEY_FILE") or DATA_DIR / "signing-key.pem")
STALL_SECONDS = env.seconds("HEIMDALL_STALL_SECONDS", 1_800, low=1)
DRAIN_GRACE_SECONDS = env.seconds("HEIMDALL_DRAIN_GRACE_SECONDS", 60, low=1)
SWEEP_SECONDS = env.seconds("HEIMDALL_SWEEP_SECONDS", 5, low=0.2)
CANARY_SECONDS = env.seconds("HEIMDALL_CANARY_SECONDS", 30, low=1)
ORPHAN_GRACE_SECONDS = env.seconds("HEIMDALL_ORPHAN_GRACE_SECONDS", 3_600, low=1, high=2_592_000)
DISCARDED_KEEP_SECONDS = env.seconds("HEIMDALL_DISCARDED_KEEP_SECONDS", 604_800, low=0, high=31_536_000)
# None: the memory of this machine or of its largest GPU, whichever is more.
MAX_JOB_MEMORY_GB = env.gigabytes("HEIMDALL_MAX_JOB_MEMORY_GB")
# What one person may ask for and keep.
MAX_PRIORITY = env.integer("HEIMDALL_MAX_PRIORITY", 10, low=0, high=fields.HIGHEST_PRIORITY)
MAX_UNFINISHED_JOBS = env.integer("HEIMDALL_MAX_UNFINISHED_JOBS", 200, low=1, high=1_000_000)
MIN_CHECKPOINT_SECONDS = env.seconds("HEIMDALL_MIN_CHECKPOINT_SECONDS", 10, low=0)
MAX_CHECKPOINT_GB_PER_JOB = env.gigabytes("HEIMDALL_MAX_CHECKPOINT_GB_PER_JOB", 500)
MAX_CHECKPOINT_GB_PER_PERSON = env.gigabytes("HEIMDALL_MAX_CHECKPOINT_GB_PER_PERSON", 2_000)
MIN_FREE_DISK_GB = env.gigabytes("HEIMDALL_MIN_FREE_DISK_GB", 1)
CRASHES_AT_ONE_STEP = 3  # trainer deaths in succession at one step that fail a job
CRASHES_WITHOUT_CHECKPOINT = 10  # ... and deaths without a newer checkpoint
ADDRESS = env.text("HEIMDALL_ADDRESS", "")
NODE_NAME = env.name("HEIMDALL_NODE_NAME", os.uname().nodename)
POOLS = env.labels("HEIMDALL_POOLS", fields.POOL, fields.POOL_RULE)
RECIPES = env.words("HEIMDALL_RECIPES")
DEMO = env.demo("HEIMDALL_DEMO")
# Programs: scripts and commands in the place of recipes.
PROGRAMS = env.flag("HEIMDALL_PROGRAMS", True)
ENVIRONMENTS = env.interpreters("HEIMDALL_ENVIRONMENTS")
CODE_MB = env.integer("HEIMDALL_CODE_MB", 64, low=1, high=4_096)
START_METHOD = env.text("HEIMDALL_START_METHOD", "warm")
if START_METHOD not in {"cold", "warm"}:
    raise ImproperlyConfigured(f"HEIMDALL_START_METHOD={START_METHOD!r}: use cold or warm.")
GPUS = env.gpus()
SLOTS = env.integer("HEIMDALL_SLOTS", len(GPUS) or 1, low=1, high=64)

# A faster way for queue messages, where there is one.
REDIS_URL = env.matching("REDIS_URL", r"(rediss?|unix)://\S+", "an address like redis://127.0.0.1:6379/0")
# django-q2 carries wake-ups only. No safety rests on its retry, acknowledgement or timeout: the longest retry and
# no timeout keep it from handing a message out twice while a training runs.
warnings.filterwarnings("ignore", message="Retry and timeout are misconfigured")
Q_CLUSTER = {
    "name": "heimdall",
    "orm": "default",
    "broker_class": "training.queue.RedisBroker" if REDIS_URL else "training.queue.Broker",
    "workers": SLOTS + 1,
    "poll": 0.05,
    "retry": 2_147_483_647 // 100,
    "timeout": None,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "bulk": 1,
    "queue_limit": 1,
    "recycle": 100_000,
    "catch_up": False,
    "scheduler": False,
    "daemonize_workers": False,
    "log_level": "WARNING",
    "label": "Queue messages",
}
# Nothing of ours is cached; django-q2 would leave pickles with its statistics here.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
# Carries lost logins to open sockets at once; see training/live/login_changes.py. A receiver waits 5 s at a time.
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1_000}}
}
if REDIS_URL:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_connect_timeout": 2, "socket_timeout": 15}],
            "prefix": "heimdall",
        },
    }

# Notifications: e-mail is offered where a server is named; webhooks go to public addresses and to these.
EMAIL = env.mail_server("HEIMDALL_EMAIL_URL")
OFFERS_EMAIL = bool(EMAIL)
vars().update(EMAIL)  # EMAIL_HOST and so on
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.sender("HEIMDALL_EMAIL_FROM", "heimdall@localhost")
WEBHOOK_ALLOW = env.hosts_and_networks("HEIMDALL_WEBHOOK_ALLOW")
WEBHOOK_PORTS = env.ports("HEIMDALL_WEBHOOK_PORTS")

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "jobs"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
USE_I18N = True
FORMAT_MODULE_PATH = "heimdall.site.formats"
USE_TZ = True
TIME_ZONE = env.time_zone("HEIMDALL_TIME_ZONE", "UTC")

# The token class stands first, so that a missing login is 401 and not 403.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "training.api.authentication.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "training.api.authentication.WithinScope",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "training.api.pagination.Pages",
    "EXCEPTION_HANDLER": "training.api.errors.handle",
    "DEFAULT_THROTTLE_RATES": {
        "verbs": env.rate("HEIMDALL_VERB_RATE", "600/min"),
        "login": env.rate("HEIMDALL_LOGIN_RATE", "20/min"),
    },
    "PAGE_SIZE": 50,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Heimdall",
    "DESCRIPTION": "Queue PyTorch training jobs, watch them live, pause and resume them exactly.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVERS": [{"url": URL_PREFIX}] if URL_PREFIX else [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "OAS_VERSION": "3.1.0",
    "POSTPROCESSING_HOOKS": ["training.api.schema.complete"],
}
UNFOLD = {
    "SITE_TITLE": "Heimdall",
    "SITE_HEADER": "Heimdall",
    "SITE_URL": f"{URL_PREFIX}/",
    "SITE_ICON": "training.admin.dashboard.icon",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "training.admin.dashboard.icon"}],
    "COLORS": {
        # The blue of the pages, from light to dark.
        "primary": {
            "50": "oklch(97% .014 258)",
            "100": "oklch(93% .032 258)",
            "200": "oklch(88% .059 258)",
            "300": "oklch(81% .105 258)",
            "400": "oklch(71% .14 258)",
            "500": "oklch(60% .15 258)",
            "600": "oklch(47% .152 258)",
            "700": "oklch(42% .14 258)",
            "800": "oklch(37% .12 258)",
            "900": "oklch(32% .1 258)",
            "950": "oklch(26% .08 258)",
        },
    },
    "DASHBOARD_CALLBACK": "training.admin.dashboard.show",
    "SIDEBAR": {"show_all_applications": False, "navigation": "training.admin.sidebar.navigation"},
    "SCRIPTS": ["training.admin.dashboard.times"],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": True,
}

# Under the map of located transmitters; the policy of that page alone lets pictures come from there.
MAP_TILES = env.map_tiles("HEIMDALL_MAP_TILES")
MAP_TILES_BY = env.text("HEIMDALL_MAP_TILES_BY")
METRICS_TOKEN = env.text("HEIMDALL_METRICS_TOKEN")
# Never logged. What is shorter may be part of any word.
SECRETS = [
    word
    for word in (
        SECRET_KEY,
        str(DATABASES["default"].get("PASSWORD") or ""),
        urlsplit(LISTEN_URL).password or "",
        str(EMAIL.get("EMAIL_HOST_PASSWORD") or ""),
        urlsplit(REDIS_URL).password or "",
        env.text("AWS_SECRET_ACCESS_KEY"),
        env.text("AWS_SESSION_TOKEN"),
        METRICS_TOKEN,
    )
    if len(word) >= 6
]
LOG_LEVEL = env.text("HEIMDALL_LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured(f"HEIMDALL_LOG_LEVEL={LOG_LEVEL!r}: use DEBUG, INFO, WARNING or ERROR.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "()": "heimdall.site.logs.OneLine",
            "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
            "datefmt": "%H:%M:%S",
        },
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        },
    },
    "filters": {
        "about": {"()": "heimdall.site.logs.About"},
        "discreet": {"()": "heimdall.site.logs.Discreet"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["about", "discreet"],
            "formatter": "json" if env.flag("HEIMDALL_LOG_JSON", False) else "text",
            "stream": sys.stderr,
        }
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "training": {"level": LOG_LEVEL},
        "heimdall": {"level": LOG_LEVEL},
        "django-q": {"level": "WARNING", "handlers": ["console"], "propagate": False},
        "uvicorn": {"level": "ERROR"},  # below it: each request of a stranger that is no HTTP
    },
}

"""API tokens for tests: the same value for a person as often as it is asked for."""

from django.contrib.auth.models import User

from training.models import ApiToken
from training.services.tokens import PREFIX, digest_of


def token_of(user: User, scope: str = ApiToken.Scope.ADMIN) -> str:
    value = f"{PREFIX}{digest_of(f'{scope} {user.pk}')[:48]}"
    facts = {"name": f"tests, {scope}", "scope": scope}
    ApiToken.objects.get_or_create(digest=digest_of(value), defaults=facts | {"user": user})
    return value


def bearer(user: User, scope: str = ApiToken.Scope.ADMIN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(user, scope)}"}

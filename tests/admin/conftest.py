"""What the tests of the admin stand on."""

import pytest
from django.contrib.contenttypes.models import ContentType


@pytest.fixture(autouse=True)
def _content_types_are_looked_up_anew():
    """A test that empties tables, or made a content type and was rolled back, leaves numbers that hold no more."""
    ContentType.objects.clear_cache()

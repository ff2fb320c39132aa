"""Groups of people that are no teams."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import models


class RightsGroup(models.Model):
    """Marks a group that gives its members a right. Any other group is a team, which jobs can be given to."""

    group = models.OneToOneField(Group, on_delete=models.CASCADE, related_name="rights_group")

    def __str__(self) -> str:
        return self.group.name

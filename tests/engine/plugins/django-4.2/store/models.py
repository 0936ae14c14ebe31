from django.db import models
from django.utils import timezone


class Item(models.Model):
    name = models.CharField(max_length=20)
    kind = models.IntegerField()
    made = models.DateTimeField(default=lambda: timezone.datetime.now(timezone.utc))  # timezone.utc: 4.2 alone

    class Meta:
        index_together = [("name", "kind")]  # 4.2 alone

    def __str__(self):
        return self.name

from django.db import models
from django.db.models.functions import Now, Upper


class Item(models.Model):
    name = models.CharField(max_length=20)
    kind = models.IntegerField()
    made = models.DateTimeField(db_default=Now())  # from 5.0 on, as the next
    loud = models.GeneratedField(expression=Upper("name"), output_field=models.CharField(max_length=20), db_persist=True)

    def __str__(self):
        return self.name
